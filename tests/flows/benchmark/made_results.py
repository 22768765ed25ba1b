"""Results with values that a test chooses, and pictures to go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from red_squares import picture

from flows.benchmark.measuring import Measure
from flows.benchmark.prompts import Prompt
from flows.benchmark.results import ArmSaid, Results
from flows.benchmark.trails import Spent, Stand, Trail

SOUND = Measure("sound", "nobody sees a flaw", "judge", binary=True)
TASTE = Measure("report", "a reporting scorer", "reporting")
PICKED = Measure("taste", "the selecting scorer", "selection")
PRICES = {"paint": 0.5, "diagnose": 0.1, "score": 0.05}


def made(
    values: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    measures: Sequence[Measure] = (SOUND, TASTE, PICKED),
    texts: Sequence[str] = (),
    **facts: Any,
) -> Results:
    """By arm and measure the values (P, K) of the final pictures. Every arm paints twice, and its first
    picture is worth half as much. `facts` are added to the usual ones."""
    arms = list(values)
    grids = {a: {m.name: np.asarray(values[a][m.name], float) for m in measures} for a in arms}
    count, repeats = next(iter(grids[arms[0]].values())).shape
    prompts = [
        Prompt(f"p{p}", texts[p] if texts else f"gray wall number {p}", ("even", "odd")[p % 2])
        for p in range(count)
    ]
    trails, found = {}, {prompt.id: {} for prompt in prompts}
    for arm in arms:
        rows = []
        for p, prompt in enumerate(prompts):
            row = []
            for k in range(repeats):
                steps = [(f"{arm}-{p}-{k}-{step}", (step + 1) / 2) for step in range(2)]
                for name, share in steps:
                    found[prompt.id][name] = {m: share * grid[p, k] for m, grid in grids[arm].items()}
                stands = [Stand(n, Spent(paint=i, score=i)) for i, (n, _) in enumerate(steps, start=1)]
                row.append(Trail(tuple(stands)))
            rows.append(tuple(row))
        trails[arm] = tuple(rows)
    said = {"profile": "squares", "source": "test", "budget": 2, "seeds": repeats, "seed": 1, "models": {}}
    return Results(
        facts={**said, **facts},
        prompts=tuple(prompts),
        arms=tuple(ArmSaid(arm, f"about {arm}", arm != "oracle") for arm in arms),
        measures=tuple(measures),
        not_measured={},
        bands={m.name: 0.0 for m in measures},
        trails=trails,
        values=found,
        seconds=PRICES,
    )


def noisy(
    count: int, gains: Mapping[str, float], repeats: int = 1, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Values of arms that gain so much each over what the prompt is worth, with some noise."""
    rng = np.random.default_rng(seed)
    worth = rng.uniform(1, 2, (count, repeats))
    values = {}
    for arm, gain in gains.items():
        report = worth + gain + rng.normal(0, 0.01, worth.shape)
        values[arm] = {"report": report, "taste": report * 2, "sound": (report > 1.5).astype(float)}
    return values


def load_image(digest: str):
    """A picture for every digest."""
    number = sum(digest.encode())
    return picture((number % 20, 2, number % 20 + 6, 9), seed=number)

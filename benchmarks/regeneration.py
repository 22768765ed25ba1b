"""Does the loop help? Bundled models, held-out prompts, the independent judge, 95 % bootstrap intervals.

    python -m benchmarks.regeneration            the README's table: 256 prompts, minutes on two cores
    python -m benchmarks.regeneration --n 32     a quick look

Four arms share prompts and seeds: the first round (one plain picture); the loop; drawing again, which paints
as many pictures as the loop did for that prompt, with new seeds and the plain prompt, and keeps the one with
the best selection score; and the same with as many pictures as the loop has rounds. None sees the judge.
"""

from __future__ import annotations

import tempfile

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Bench, Row, arguments, bundled_tools, fewer, show
from contracts.intervals import bootstrap, ratio, resample
from contracts.protocols import Scorer
from controller.regeneration import Case, RegenerationSettings, regenerate
from flows.profiles.loading import load_profile
from memory_bank import open_memory_bank


def loop(bench: Bench, rounds: int, score_tolerance: float) -> list[Row]:
    """The regeneration loop against its own first round and against drawing again."""
    settings = RegenerationSettings(rounds=rounds, score_tolerance=score_tolerance, batch_size=16)
    cases = [Case(f"bench-{i}", p, bench.seed + i) for i, p in enumerate(bench.prompts)]
    with tempfile.TemporaryDirectory() as folder:
        bank = open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store")
        runs = regenerate(cases, bench.tools, bank, settings)
        first = np.stack([bank.image(_digest(r.rounds[0].image)) for r in runs])
        best = np.stack([bank.image(_digest(r.best.image if r.best else None)) for r in runs])
    used = np.array([len(r.rounds) for r in runs])
    draws = [first, *(bench.paint(draw=1_000 + d) for d in range(1, rounds))]
    scores = np.array([_values(bench.tools.selection_scorer, d, bench.prompts) for d in draws])
    limited = np.where(np.arange(rounds)[:, None] < used[None], scores, -np.inf)
    redrawn, redrawn_full = (
        np.stack(draws)[s.argmax(axis=0), np.arange(len(runs))] for s in (limited, scores)
    )
    before, after, again, again_full = (bench.judged(p) for p in (first, best, redrawn, redrawn_full))
    left = ratio(after.flawed, before.flawed)
    rows = [
        Row("flawed, first round", "", bootstrap(before.flawed)),
        Row("flawed, returned by the loop", "", bootstrap(after.flawed)),
        Row("flawed, returned, for each flawed first one", "<= 35 %", resample(left, len(runs))),
        Row("flawed, redrawn as often as the loop painted", "", bootstrap(again.flawed)),
        Row(f"flawed, redrawn {rounds} times", "", bootstrap(again_full.flawed)),
        Row("fewer flawed than the first round", "> 0", bootstrap(fewer(after, before)), "points"),
        Row("fewer flawed than redrawing equally often", "> 0", bootstrap(fewer(after, again)), "points"),
        Row(f"fewer flawed than redrawing {rounds} times", "", bootstrap(fewer(after, again_full)), "points"),
        Row("object and color right, first round", "", bootstrap(before.right)),
        Row("object and color right, returned", "not lower", bootstrap(after.right)),
        Row("pictures painted per prompt", "", bootstrap(used), "plain"),
    ]
    for scorer in bench.tools.reporting_scorers:
        gain = _values(scorer, best, bench.prompts) - _values(scorer, first, bench.prompts)
        rows.append(Row(f"gain of the reporting score '{scorer.name}'", "", bootstrap(gain), "plain"))
    return rows


def _values(scorer: Scorer, pictures: NDArray[np.uint8], prompts: list[str]) -> NDArray[np.float64]:
    return np.array([s.value for s in scorer.score(list(pictures), prompts)])


def _digest(digest: str | None) -> str:
    if digest is None:
        raise RuntimeError("a finished run has a picture in every round")
    return digest


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    bench = Bench(args.n, args.seed, bundled_tools())
    show(loop(bench, args.rounds, load_profile("tabletop").loop.score_tolerance), args.json)


if __name__ == "__main__":
    main()

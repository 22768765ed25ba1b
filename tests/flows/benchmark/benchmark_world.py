"""A scripted world for benchmarks: pictures with red squares, painted without a model, in any process.

Run as a program it is one worker of a benchmark: `python benchmark_world.py PROFILE N OUT [DIE_AT]` writes
its results as JSON, or is killed at its DIE_AT-th model call.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from counting import Counting, dice  # noqa: E402
from red_squares import GrayPainter, GrayTaste, SquareDefender, picture  # noqa: E402

from contracts.errors import CheckpointError  # noqa: E402
from contracts.records import Score  # noqa: E402
from controller.modifiers import RuleBasedModifier  # noqa: E402
from controller.scorers.artifact_area import ArtifactAreaScorer, RememberingDefender  # noqa: E402
from flows.benchmark import running  # noqa: E402
from flows.benchmark.prompts import Prompt  # noqa: E402
from flows.benchmark.results import Results, to_json  # noqa: E402
from prompts import load_lexicon  # noqa: E402

SQUARES = ((2, 2, 9, 8), (14, 3, 22, 10), (4, 18, 12, 27))
"""One for each of the tabletop lexicon's words that a prompt lacks, by the seed's chance."""
FACTS = {"profile": "squares", "source": "test", "budget": 3, "seeds": 1, "seed": 1}
"""What a report is told of a plan."""
PROFILE = """
[generator]
kind = "diffusers"
path = "nowhere"
steps = 2
guidance_scale = 1.0
batch_size = 4

[defender]
kind = "legion"
path = "nowhere"

[selection_scorer]
kind = "clip"
name = "taste"
path = "nowhere"

[[reporting_scorers]]
kind = "clip"
name = "report"
path = "nowhere"

[modifier]
kind = "rules"
lexicon = "tabletop"

[loop]
rounds = 3
score_tolerance = 1.0

[inpainting.gate]
max_seam = 40

[benchmark]
suffix = "clean surface"
"""


class Painter(Counting):
    """Each flaw is there by the seed's chance, unless the prompt says the word against it."""

    def __init__(self) -> None:
        super().__init__("squares")

    def generate(self, requests):
        self.count([(r.prompt, r.seed) for r in requests])
        return [self._picture(r) for r in requests]

    def unknown_words(self, prompt):
        return []

    def _picture(self, request):
        words = load_lexicon("tabletop").phrases
        flaws = [
            square
            for word, square in zip(words, SQUARES, strict=True)
            if word not in request.prompt and dice(request.seed, word) < 190
        ]
        return picture(*flaws, seed=request.seed % 2**32)


class Report(Counting):
    """Likes even pictures; knows nothing of squares' colors."""

    def __init__(self) -> None:
        super().__init__("report")

    def score(self, images, prompts):
        self.count([image.tobytes() for image in images])
        return [Score(self.name, "1", 1.0 + 1 / (1 + float(np.std(image)))) for image in images]


class World:
    """What `flows.assemble` would build, scripted; parts in `missing` have no weights."""

    def __init__(self, missing: tuple[str, ...] = ()) -> None:
        self.missing = missing
        self.painter, self.mender, self.looker = Painter(), GrayPainter(), SquareDefender()
        self.taste, self.report = GrayTaste(), Report()

    def module(self) -> types.ModuleType:
        """In the place of `flows.assemble`."""
        module = types.ModuleType("flows.assemble")
        parts: dict[str, Callable] = {
            "generator": lambda profile, exact=None: self._part("painter"),
            "inpainter": lambda profile, exact=None: self._part("mender"),
            "defender": lambda profile, **changes: self._part("looker"),
            "remembering": RememberingDefender,
            "modifier": lambda profile, painter: RuleBasedModifier(load_lexicon("tabletop")),
            "profile_scorer": lambda section, profile: self._part(section.name),
            "area_scorer": ArtifactAreaScorer,
        }
        vars(module).update(parts)
        return module

    def install(self, put: Callable[[str, types.ModuleType], None]) -> None:
        """Replace the real assembly, and forget what was loaded."""
        put("flows.assemble", self.module())
        running._toolbox.cache_clear()
        running._meters.cache_clear()

    def patch(self, monkeypatch) -> None:
        """Install it as long as a test lasts."""
        import flows

        def put(name, module):
            monkeypatch.setitem(sys.modules, name, module)
            monkeypatch.setattr(flows, "assemble", module, raising=False)

        self.install(put)

    def _part(self, name: str):
        if name in self.missing:
            raise CheckpointError(f"the weights of {name} are missing")
        return getattr(self, name)


def prompts(n: int) -> tuple[Prompt, ...]:
    """Distinct prompts of two categories."""
    return tuple(Prompt(f"p{i}", f"gray wall number {i}", ("even", "odd")[i % 2]) for i in range(n))


def plan(profile: Path, n: int, arms: tuple[str, ...] = (), seeds: int = 1, budget: int = 3) -> running.Plan:
    """All arms but the oracle, which needs the judge, and those that need pictures, unless named."""
    from flows.benchmark.arms import ARMS

    chosen = arms or tuple(one.name for one in ARMS.values() if one.fair and not one.pictured)
    return running.Plan(str(profile), prompts(n), chosen, budget, seeds)


def benchmark(asked: running.Plan) -> Results:
    """The whole benchmark in this process."""
    able, said = running.prepare(asked)
    facts = {"profile": "squares", "source": "test", "budget": asked.budget, "seeds": asked.seeds, "seed": 1}
    return running.run(able, said, running.one_by_one(), facts)


def numbers(results: Results) -> dict:
    """All that must be the same however it came about: everything but seconds."""
    return {**to_json(results), "seconds": None}


def die_at(number: int) -> None:
    """Kill this process at its `number`-th model call."""
    count = Counting.count
    seen = [0]

    def counted(self, keys):
        seen[0] += 1
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        count(self, keys)

    Counting.count = counted  # type: ignore[method-assign]


def main() -> None:
    profile, n, out, *die = sys.argv[1:]
    if die:
        die_at(int(die[0]))
    import flows

    World().install(
        lambda name, module: (sys.modules.__setitem__(name, module), setattr(flows, "assemble", module))
    )
    running.SHARE = 2
    running.WAIT_SECONDS = 0.05
    Path(out).write_text(json.dumps(numbers(benchmark(plan(Path(profile), int(n))))))


if __name__ == "__main__":
    main()

"""What the benchmarks of the bundled world share: prompts, pictures, the judge's word on them, table rows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.intervals import Interval
from contracts.records import CATEGORIES, Category, GenerationRequest
from contracts.seeds import derive_seed
from controller.generators.diffusers_pipeline import DiffusersGenerator
from controller.regeneration import RegenerationTools
from flows.assemble import regeneration_tools
from flows.profiles.loading import load_profile
from tabletop import captions, judge
from tabletop.scenes import Scene, attributes

REPORTING_SEED = 9001
"""Prompts and pictures for reported figures. Settings were chosen with other seeds."""
WEIGHTS = Path("tabletop/weights")


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    claim: str
    bar: str
    measured: Interval
    kind: str = "percent"

    def markdown(self) -> str:
        return f"| {self.claim} | {self.bar} | {getattr(self.measured, self.kind)()} |"


@dataclass(frozen=True)
class Said:
    """One line of a table that is counted or said, not estimated."""

    claim: str
    bar: str
    measured: str

    def markdown(self) -> str:
        return f"| {self.claim} | {self.bar} | {self.measured} |"


@dataclass(frozen=True, eq=False)
class Judged:
    """The judge's word on one picture per prompt."""

    flaws: NDArray[np.bool_]
    """(N, 3) by category."""
    object_right: NDArray[np.bool_]
    """(N,) whether the solids that were asked for are there, from left to right, and no other."""
    color_right: NDArray[np.bool_]

    @property
    def flawed(self) -> NDArray[np.bool_]:
        """(N,) whether any category is flawed."""
        return np.asarray(self.flaws.any(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """(N,) whether solids and colors are right."""
        return self.object_right & self.color_right


class Bench:
    """The tools, the judge and the prompts of one measurement."""

    def __init__(self, n: int, seed: int, tools: RegenerationTools, solids: int = 1) -> None:
        self.tools, self.seed = tools, seed
        self.scenes = captions.held_out_scenes(n, seed, solids)
        self.prompts = [captions.scene_caption(scene) for scene in self.scenes]
        self._judge = judge.load(WEIGHTS / "judge")

    def paint(self, categories: Sequence[Category] = (), draw: int = 1) -> NDArray[np.uint8]:
        """(N, H, W, 3): one picture per prompt with the modifiers of `categories`; the same `draw` means the
        same seeds.
        """
        asked = [captions.with_modifiers(prompt, categories) for prompt in self.prompts]
        requests = [GenerationRequest(p, derive_seed(self.seed + i, draw)) for i, p in enumerate(asked)]
        return np.stack(self.tools.generator.generate(requests))

    def judged(self, pictures: NDArray[np.uint8]) -> Judged:
        """The judge's word on one picture per prompt."""
        return judged(self._judge, pictures, self.scenes)

    def flaw_probability(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N,) the judge's probability of the likeliest flaw."""
        return np.asarray(judge.judge(self._judge, pictures).flaws.max(axis=1))


def judged(model: judge.JudgeNetwork, pictures: NDArray[np.uint8], scenes: Sequence[Scene]) -> Judged:
    """The judge's word on pictures that should show `scenes`."""
    opinion = judge.judge(model, pictures)
    wanted = np.array([attributes(scene) for scene in scenes])
    return Judged(
        opinion.flaws > 0.5,
        (opinion.shape == wanted[:, 0]) & (opinion.second_shape == wanted[:, 3]),
        (opinion.color == wanted[:, 1]) & (opinion.second_color == wanted[:, 4]),
    )


def bundled_tools(guidance_scale: float | None = None) -> RegenerationTools:
    """The default profile's tools, but painting in batches: faster, and not exact to the last bit."""
    section = load_profile("tabletop").generator
    generator = DiffusersGenerator.load(
        section.path,
        steps=section.steps,
        guidance_scale=section.guidance_scale if guidance_scale is None else guidance_scale,
        batch_size=32,
        exact=False,
    )
    return replace(regeneration_tools("tabletop"), generator=generator)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every one of these benchmarks has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=256, help="prompts")
    parser.add_argument("--seed", type=int, default=REPORTING_SEED)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


def show(rows: Sequence[Row | Said], path: Path | None) -> None:
    """Print the table, and write it to a file if asked to."""
    print("| figure | bar | measured |\n| --- | --- | --- |")
    print("\n".join(row.markdown() for row in rows))
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def fewer(ours: Judged, other: Judged, category: Category | None = None) -> NDArray[np.float64]:
    """(N,) 1 where only the other picture is flawed, -1 where only ours is, 0 where they are alike."""
    if category is None:
        return other.flawed.astype(float) - ours.flawed
    k = CATEGORIES.index(category)
    return other.flaws[:, k].astype(float) - ours.flaws[:, k]

"""What the benchmarks of the bundled world share: prompts, pictures, the judge's word on them, table rows."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from math import isnan
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from contracts.intervals import Interval
from contracts.records import CATEGORIES, Category, GenerationRequest
from contracts.seeds import derive_seed
from controller.generators.diffusers_pipeline import DiffusersGenerator
from controller.regeneration import RegenerationSettings, RegenerationTools
from flows.assemble import regeneration_tools
from flows.profiles.loading import load_profile
from tabletop import captions, judge
from tabletop.geometry import GeometryCheck
from tabletop.scenes import Scene, attributes
from tabletop.unseen import unseen_scenes

REPORTING_SEED = 9001
"""Prompts and pictures for reported figures. Settings were chosen with other seeds."""
WEIGHTS = Path("tabletop/weights")
Prompts: TypeAlias = Literal["one-solid", "unseen"]
"""Every prompt of one solid that the world has, all of them training captions; or prompts of two solids that
are nobody's training caption."""
HEADINGS: dict[Prompts, str] = {"one-solid": "one solid", "unseen": "two solids, unseen prompts"}


@dataclass(frozen=True)
class Row:
    """One line of a table."""

    claim: str
    bar: str
    measured: Interval
    kind: str = "percent"

    def shown(self) -> str:
        """The figure with its interval, in its unit; a share of nothing says so."""
        return "none to measure" if isnan(self.measured.mean) else str(getattr(self.measured, self.kind)())

    def markdown(self) -> str:
        return f"| {self.claim} | {self.bar} | {self.shown()} |"


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

    def __init__(self, n: int, seed: int, tools: RegenerationTools, prompts: Prompts = "one-solid") -> None:
        self.tools, self.seed = tools, seed
        self.scenes = unseen_scenes(n, seed) if prompts == "unseen" else captions.drawn_scenes(n, seed)
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

    def misshapen(self, pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """(N,) whether a solid that was asked for resembles no clean render of its shape, or is not there."""
        shapes = [scene.shapes for scene in self.scenes]
        return ~geometry_check().all_sound(pictures, shapes)


@cache
def geometry_check() -> GeometryCheck:
    """The bundled one, which compares solids with clean renders and is no classifier."""
    return GeometryCheck.load(WEIGHTS / "geometry")


def judged(model: judge.JudgeNetwork, pictures: NDArray[np.uint8], scenes: Sequence[Scene]) -> Judged:
    """The judge's word on pictures that should show `scenes`."""
    opinion = judge.judge(model, pictures)
    wanted = np.array([attributes(scene) for scene in scenes])
    return Judged(
        opinion.flaws > 0.5,
        (opinion.shape == wanted[:, 0]) & (opinion.second_shape == wanted[:, 3]),
        (opinion.color == wanted[:, 1]) & (opinion.second_color == wanted[:, 4]),
    )


def bundled_tools(
    guidance_scale: float | None = None, steps: int | None = None, generator: Path | None = None
) -> RegenerationTools:
    """The default profile's tools, but painting in batches: faster, and not exact to the last bit."""
    section = load_profile("tabletop").generator
    painter = DiffusersGenerator.load(
        generator or section.path,
        steps=steps or section.steps,
        guidance_scale=section.guidance_scale if guidance_scale is None else guidance_scale,
        batch_size=32,
        exact=False,
    )
    return replace(regeneration_tools("tabletop"), generator=painter)


def loop_settings(rounds: int | None = None) -> RegenerationSettings:
    """The default profile's loop; `rounds` in place of its own, if given."""
    section = load_profile("tabletop").loop
    return RegenerationSettings(
        rounds=section.rounds if rounds is None else rounds,
        patience=section.patience,
        score_tolerance=section.score_tolerance,
        batch_size=16,
    )


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every one of these benchmarks has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=256, help="prompts (of each kind, where there are two)")
    parser.add_argument("--seed", type=int, default=REPORTING_SEED)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    return parser


def add_prompts(parser: argparse.ArgumentParser) -> None:
    """The option of those that measure on both kinds of prompts."""
    kinds = get_args(Prompts)
    parser.add_argument(
        "--prompts", nargs="+", choices=kinds, default=kinds, help="which kinds of prompts (default: both)"
    )


def show(rows: Sequence[Row | Said], path: Path | None) -> None:
    """Print the table, and write it to a file if asked to."""
    print("| figure | bar | measured |\n| --- | --- | --- |")
    print("\n".join(row.markdown() for row in rows))
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


def side_by_side(columns: Mapping[str, Sequence[Row]]) -> str:
    """One table with a column of figures for each heading; all have the same claims in the same order.

    Raises ValueError if they do not.
    """
    lines = [f"| figure | bar | {' | '.join(columns)} |", "| --- " * (2 + len(columns)) + "|"]
    for row, *others in zip(*columns.values(), strict=True):
        if any((other.claim, other.bar) != (row.claim, row.bar) for other in others):
            raise ValueError(f"'{row.claim}' stands beside {[other.claim for other in others]}")
        measured = [each.shown() for each in (row, *others)]
        lines.append(f"| {row.claim} | {row.bar} | {' | '.join(measured)} |")
    return "\n".join(lines)


def write(path: Path | None, tables: Mapping[str, Sequence[Row]]) -> None:
    """All rows by the name of their table or column, as JSON, if there is a place for them."""
    if path is not None:
        found = {name: [asdict(row) for row in rows] for name, rows in tables.items()}
        path.write_text(json.dumps(found, indent=2) + "\n")


def fewer(ours: Judged, other: Judged, category: Category | None = None) -> NDArray[np.float64]:
    """(N,) 1 where only the other picture is flawed, -1 where only ours is, 0 where they are alike."""
    if category is None:
        return other.flawed.astype(float) - ours.flawed
    k = CATEGORIES.index(category)
    return other.flaws[:, k].astype(float) - ours.flaws[:, k]

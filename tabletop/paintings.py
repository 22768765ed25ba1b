"""The generator's own pictures as training data, labeled by the geometry check.

What is wrong with a painted picture nobody knows for sure. Of pictures that were asked for with all three
modifiers, those whose solids agree with a clean render count as sound, and a solid that agrees with none
counts as misshapen as a whole. All other pictures only say that they are not real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.records import CATEGORIES, Category, Finding, GenerationRequest, Mask
from defender.datasets import Sample
from tabletop import captions, data
from tabletop.explanations import Look, explain
from tabletop.flaws import KINDS
from tabletop.geometry import GeometryCheck
from tabletop.scenes import ATTRIBUTE_SIZES, Scene, attributes

_NO_KINDS = (-1,) * len(KINDS)
_NOTHING_KNOWN = (-1,) * len(ATTRIBUTE_SIZES) + _NO_KINDS


@dataclass(frozen=True, eq=False)
class Painting:
    """A picture and what was asked for."""

    picture: NDArray[np.uint8]
    scene: Scene
    """What the caption said; the places of the solids mean nothing."""
    modifiers: tuple[Category, ...]
    """Categories whose modifier was in the prompt."""


@dataclass(frozen=True, eq=False)
class PaintedSamples:
    """Paintings as samples, never real."""

    paintings: Sequence[Painting]
    misshapen: Sequence[Sequence[Mask] | None]
    """For each, a mask per solid, empty where the solid is sound; None where nothing is known."""

    def __len__(self) -> int:
        return len(self.paintings)

    def __getitem__(self, index: int) -> Sample:
        painting, masks = self.paintings[index], self.misshapen[index]
        if masks is None:
            return Sample(painting.picture, (), False, _NOTHING_KNOWN)
        findings = tuple(
            Finding(mask, *explain("lumps", solid, Look(mild=True)), "structure", 1.0)
            for mask, solid in zip(masks, painting.scene.solids, strict=True)
            if mask.any()
        )
        return Sample(painting.picture, findings, False, (*attributes(painting.scene), *_NO_KINDS))


def modifiers_for(count: int, seed: int, all_share: float) -> list[tuple[Category, ...]]:
    """Which modifiers each of `count` prompts gets: all of them in `all_share`, else a random choice."""
    rng = np.random.default_rng([seed, 5])
    chosen: list[tuple[Category, ...]] = []
    for _ in range(count):
        everything = rng.random() < all_share
        chosen.append(tuple(c for c in CATEGORIES if rng.random() < 0.5 or everything))
    return chosen


def paint(
    generator_folder: Path,
    scenes: Sequence[Scene],
    modifiers: Sequence[Sequence[Category]],
    seed: int,
    device: str = "cpu",
) -> NDArray[np.uint8]:
    """One picture (64, 64, 3) by the generator for each scene's caption with its modifiers."""
    from controller.generators.diffusers_pipeline import DiffusersGenerator

    generator = DiffusersGenerator.load(generator_folder, batch_size=25, exact=False, device=device)
    asked = [
        captions.with_modifiers(captions.scene_caption(scene), chosen)
        for scene, chosen in zip(scenes, modifiers, strict=True)
    ]
    requests = [GenerationRequest(prompt, seed * 1_000_000 + i) for i, prompt in enumerate(asked)]
    return data.stack(generator.generate(requests))


def labeled(paintings: Sequence[Painting], check: GeometryCheck) -> tuple[PaintedSamples, PaintedSamples]:
    """Paintings that the check can speak of, with its word; and the rest."""
    asked = [p for p in paintings if len(p.modifiers) == len(CATEGORIES)]
    pictures = data.stack([p.picture for p in asked])
    masks = check.misshapen(pictures, [p.scene.shapes for p in asked])
    known = [(p, m) for p, m in zip(asked, masks, strict=True) if m is not None]
    told = {id(p) for p, _ in known}
    rest = [p for p in paintings if id(p) not in told]
    return (
        PaintedSamples([p for p, _ in known], [m for _, m in known]),
        PaintedSamples(rest, [None] * len(rest)),
    )

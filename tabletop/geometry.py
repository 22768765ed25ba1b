"""Is a painted solid the shape it should be? Straight edges, round balls, flat faces, by nearest render.

A small network cuts the solids out of a picture; each cut-out is moved and scaled to a standard frame and
compared with clean renders of the same shape in many poses: how well the outlines overlap (IoU), and how well
the shading inside agrees (correlation). A solid that no clean render resembles is misshapen. The bounds are
what all but a few clean held-out pictures keep, so the check has a known rate of false alarms.

It serves two ends: a measure of the generator that is no classifier, and labels for the generator's own
pictures, of which nobody else knows the truth.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from contracts.errors import CheckpointError
from contracts.intervals import Interval, bootstrap
from contracts.records import Mask
from tabletop import data
from tabletop.flaws import STRUCTURE, Pair
from tabletop.scenes import SHAPES, Shape
from tabletop.tensors import device_of, pixels
from tabletop.trainer import Metrics, Outcome, Schedule, train

SCHEDULE = Schedule(steps=700, learning_rate=3e-3, seed=81, warmup=50, weight_decay=0.01, ema_decay=0.995)
BATCH = 32
PARTS = (range(0, 2_400), range(3_000, 3_400), range(3_400, 3_800))
"""Which of the check's scenes teach the cutter and are compared with, choose the bounds, measure."""
FALSE_ALARMS = 0.04
"""Share of clean solids of each shape that the bounds are allowed to call misshapen."""
FRAME = 32
"""Side of the standard frame in pixels."""
REACH = 2.6
"""Side of what the frame shows, in square roots of the solid's area: a cone's height fits in."""
CANDIDATES = 30
"""How many renders with the best outlines have their shading compared."""
MINIMUM_PIXELS = 40.0
"""A solid smaller than this (in pixels of the picture) is taken for missing."""


@dataclass(frozen=True)
class Fit:
    """How well one solid agrees with the most similar clean render of its shape."""

    outline: float
    """IoU of the outlines, 0..1; 0 if there is no solid."""
    shading: float
    """Correlation of brightness inside the outline, -1..1."""


@dataclass(frozen=True)
class Bounds:
    """Below either of them a solid counts as misshapen."""

    outline: float
    shading: float


class Cutter(nn.Module):
    """Picture -> where the left (or only) and where the right solid is: two scales and back."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.top = _convolutions(3, w)
        self.middle = _convolutions(w, 2 * w)
        self.bottom = _convolutions(2 * w, 4 * w)
        self.deepest = _convolutions(4 * w, 4 * w)
        self.up2 = _convolutions(8 * w, 2 * w)
        self.up1 = _convolutions(4 * w, w)
        self.up0 = _convolutions(2 * w, w)
        self.out = nn.Conv2d(w, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 3, 64, 64) in -1..1 -> logits (N, 2, 64, 64)."""
        top = self.top(x)
        middle = self.middle(F.avg_pool2d(top, 2))
        bottom = self.bottom(F.avg_pool2d(middle, 2))
        h = _doubled(self.deepest(F.avg_pool2d(bottom, 2)))
        h = _doubled(self.up2(torch.cat([h, bottom], dim=1)))
        h = _doubled(self.up1(torch.cat([h, middle], dim=1)))
        return self.out(self.up0(torch.cat([h, top], dim=1))).float()


Renders: TypeAlias = dict[Shape, tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""Outlines and shadings (N, FRAME, FRAME), 0..255, of clean solids in the standard frame."""


@dataclass(frozen=True, eq=False)
class GeometryCheck:
    """The cutter, the renders to compare with, and the bounds for each shape."""

    cutter: Cutter
    renders: Renders
    bounds: dict[Shape, Bounds]

    @classmethod
    def made(
        cls, cutter: Cutter, learned: Sequence[Pair], chosen: Sequence[Pair], decoded: NDArray[np.uint8]
    ) -> GeometryCheck:
        """Renders from `learned`; bounds that FALSE_ALARMS of the clean pictures of `chosen` do not keep, as
        they come `decoded` from the autoencoder.
        """
        check = cls(cutter.eval(), renders_of(learned), {})
        return replace(check, bounds=bounds_from(check, decoded, _shapes(chosen), FALSE_ALARMS))

    @classmethod
    def load(cls, folder: Path) -> GeometryCheck:
        """Read what `save` wrote. Raises CheckpointError if it is not there."""
        cutter = Cutter()
        try:
            weights = load_file(folder / "model.safetensors")
            cutter.load_state_dict({name: value.float() for name, value in weights.items()})
            facts = json.loads((folder / "config.json").read_text())
            with np.load(folder / "renders.npz") as stored:
                renders = {
                    shape: (stored[f"{shape} outline"], stored[f"{shape} shading"]) for shape in SHAPES
                }
        except (OSError, RuntimeError, KeyError) as error:
            raise CheckpointError(
                f"no geometry check in {folder}: train it with legion train geometry"
            ) from error
        return cls(cutter.eval(), renders, {shape: Bounds(**facts[shape]) for shape in SHAPES})

    def fits(self, pictures: NDArray[np.uint8], shapes: Sequence[Sequence[Shape]]) -> list[list[Fit]]:
        """For each picture, the fit of each solid that should be there, from left to right."""
        return self._fits(pictures, cut(self.cutter, pictures), shapes)

    def nearest_shape(self, picture: NDArray[np.uint8], solid: int = 0) -> Shape | None:
        """The shape whose clean renders the left (0) or right (1) solid of a picture agrees with most; None
        if there is no such solid. Says what is there without being told what was asked for.
        """
        cover, brightness = cut(self.cutter, picture[None])[0, solid], gray(picture)
        fits = {shape: self._fit(brightness, cover, shape) for shape in SHAPES}
        best = max(fits, key=lambda shape: fits[shape].outline + fits[shape].shading)
        return best if fits[best].outline > 0 else None

    def misshapen(
        self, pictures: NDArray[np.uint8], shapes: Sequence[Sequence[Shape]]
    ) -> list[list[Mask] | None]:
        """For each picture, the masks of its solids, empty where a solid keeps its bounds; None where a solid
        that should be there was not found.
        """
        covers = cut(self.cutter, pictures)
        result: list[list[Mask] | None] = []
        for fits, cover, wanted in zip(self._fits(pictures, covers, shapes), covers, shapes, strict=True):
            if any(fit.outline == 0 for fit in fits):
                result.append(None)
                continue
            bad = [not self.sound([fit], [shape]) for fit, shape in zip(fits, wanted, strict=True)]
            result.append([(cover[k] > 0.5) & bad[k] for k in range(len(wanted))])
        return result

    def sound(self, fits: Sequence[Fit], shapes: Sequence[Shape]) -> bool:
        """Whether every solid of a picture keeps the bounds of its shape."""
        return all(
            fit.outline >= self.bounds[shape].outline and fit.shading >= self.bounds[shape].shading
            for fit, shape in zip(fits, shapes, strict=True)
        )

    def all_sound(self, pictures: NDArray[np.uint8], shapes: Sequence[Sequence[Shape]]) -> NDArray[np.bool_]:
        """(N,) whether every solid that was asked for is there and keeps the bounds of its shape."""
        fits = self.fits(pictures, shapes)
        sound = [self.sound(found, wanted) for found, wanted in zip(fits, shapes, strict=True)]
        return np.array(sound, dtype=np.bool_)

    @cached_property
    def _scaled(self) -> dict[Shape, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """The renders, 0..1."""
        unit = np.float32(1 / 255)
        return {
            shape: (outlines * unit, shadings * unit) for shape, (outlines, shadings) in self.renders.items()
        }

    def _fits(
        self,
        pictures: NDArray[np.uint8],
        covers: NDArray[np.float32],
        shapes: Sequence[Sequence[Shape]],
    ) -> list[list[Fit]]:
        return [
            [self._fit(gray(picture), cover[k], shape) for k, shape in enumerate(wanted)]
            for picture, cover, wanted in zip(pictures, covers, shapes, strict=True)
        ]

    def _fit(self, brightness: NDArray[np.float32], mask: NDArray[np.float32], shape: Shape) -> Fit:
        if mask.sum() < MINIMUM_PIXELS:
            return Fit(0.0, 0.0)
        outlines, shadings = self._scaled[shape]
        outline, shading = standard(brightness, mask)
        overlap = np.minimum(outlines, outline).sum((1, 2)) / np.maximum(outlines, outline).sum((1, 2))
        best = np.argsort(overlap)[::-1][:CANDIDATES]
        agreement = [_correlation(shading, shadings[i], np.minimum(outline, outlines[i])) for i in best]
        return Fit(float(overlap[best[0]]), max(agreement))


def bounds_from(
    check: GeometryCheck, pictures: NDArray[np.uint8], shapes: Sequence[Sequence[Shape]], share: float
) -> dict[Shape, Bounds]:
    """Bounds that at most `share` of clean pictures' solids of each shape fall below, half of it by each."""
    fits = check.fits(pictures, shapes)
    result: dict[Shape, Bounds] = {}
    for shape in SHAPES:
        own = [
            f
            for row, names in zip(fits, shapes, strict=True)
            for f, n in zip(row, names, strict=True)
            if n == shape
        ]
        outlines, shadings = [f.outline for f in own], [f.shading for f in own]
        result[shape] = Bounds(
            float(np.quantile(outlines, share / 2)), float(np.quantile(shadings, share / 2))
        )
    return result


def renders_of(pairs: Sequence[Pair]) -> Renders:
    """The clean solids of `pairs`, by shape."""
    found: dict[Shape, list[NDArray[np.uint8]]] = {shape: [] for shape in SHAPES}
    for pair in pairs:
        for solid, cover in zip(pair.scene.solids, pair.clean_solids, strict=True):
            both = np.stack(standard(gray(pair.clean), cover))
            found[solid.shape].append(np.round(both * 255).astype(np.uint8))
    stacked = {shape: np.stack(values) for shape, values in found.items()}
    return {shape: (values[:, 0], values[:, 1]) for shape, values in stacked.items()}


def pictures_of(pairs: Sequence[Pair]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Clean and flawed pictures, each (N, H, W, 3)."""
    return data.stack([p.clean for p in pairs]), data.stack([p.flawed for p in pairs])


def evaluate(
    check: GeometryCheck, pairs: Sequence[Pair], clean: NDArray[np.uint8], flawed: NDArray[np.uint8]
) -> dict[str, Interval]:
    """Share of `clean` pictures found sound, and of `flawed` ones found misshapen by kind of flaw."""
    shapes = _shapes(pairs)
    figures = {"clean found sound": bootstrap(check.all_sound(clean, shapes))}
    sound = check.all_sound(flawed, shapes)
    for kind in STRUCTURE:
        caught = [not good for good, pair in zip(sound, pairs, strict=True) if kind in pair.kinds]
        figures[f"{kind} found misshapen"] = bootstrap(caught)
    return figures


def gray(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Brightness (H, W), 0..1."""
    weights = np.array([0.299, 0.587, 0.114], np.float32) / np.float32(255)
    return np.asarray(picture.astype(np.float32) @ weights, np.float32)


def standard(
    brightness: NDArray[np.float32], mask: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A solid's outline and brightness moved to the middle of the frame and scaled to unit area."""
    height, width = mask.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) + 0.5
    area = float(mask.sum())
    cx, cy = float((mask * x).sum()) / area, float((mask * y).sum()) / area
    reach = REACH * np.sqrt(area)
    # grid_sample's coordinates run from -1 to 1 over the picture.
    theta = torch.tensor(
        [[[reach / width, 0, 2 * cx / width - 1], [0, reach / height, 2 * cy / height - 1]]]
    ).float()
    grid = F.affine_grid(theta, [1, 1, FRAME, FRAME], align_corners=False)
    both = torch.from_numpy(np.stack([mask, brightness]))[None].float()
    outline, shading = F.grid_sample(both, grid, align_corners=False)[0].numpy()
    return outline, shading


@torch.no_grad()
def cut(cutter: Cutter, pictures: NDArray[np.uint8], batch: int = 100) -> NDArray[np.float32]:
    """(N, 64, 64, 3) -> (N, 2, 64, 64): how likely each pixel belongs to the left and to the right solid."""
    parts = [cutter(pixels(pictures[i : i + batch])).sigmoid() for i in range(0, len(pictures), batch)]
    return torch.cat(parts).numpy()


def train_cutter(
    pictures: NDArray[np.uint8], covers: NDArray[np.float32], folder: Path, schedule: Schedule = SCHEDULE
) -> tuple[Cutter, Outcome]:
    """Train on pictures (N, 64, 64, 3) whose solids cover `covers` (N, 2, 64, 64)."""
    torch.manual_seed(schedule.seed)
    model = Cutter()

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Metrics]:
        index = rng.integers(len(pictures), size=BATCH)
        x = pixels(pictures[index]) * float(rng.uniform(0.92, 1.08))
        x = x + 0.03 * float(rng.random()) * torch.from_numpy(rng.standard_normal(x.shape, np.float32))
        here = device_of(model)
        target = torch.from_numpy(covers[index]).to(here)
        logits = model(x.to(here))
        overlap = ((logits > 0) & (target > 0.5)).sum() / ((logits > 0) | (target > 0.5)).sum()
        return F.binary_cross_entropy_with_logits(logits, target), {"iou": overlap}

    outcome = train("geometry", folder, model, loss, schedule)
    return model, outcome


def covers_of(solids: NDArray[np.float32]) -> NDArray[np.float32]:
    """(K, H, W) of one or two solids -> (2, H, W), the second empty if there is one."""
    return np.concatenate([solids, np.zeros_like(solids)])[:2]


def save(check: GeometryCheck, folder: Path) -> None:
    """Write `model.safetensors`, `config.json` (the bounds) and `renders.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = check.cutter.state_dict()
    save_file({name: v.half().contiguous() for name, v in weights.items()}, folder / "model.safetensors")
    facts = {shape: {k: round(v, 4) for k, v in asdict(b).items()} for shape, b in check.bounds.items()}
    (folder / "config.json").write_text(json.dumps(facts, indent=2) + "\n")
    arrays: dict[str, NDArray[np.uint8]] = {}
    for shape, (outlines, shadings) in check.renders.items():
        arrays |= {f"{shape} outline": outlines, f"{shape} shading": shadings}
    np.savez_compressed(folder / "renders.npz", **arrays)  # type: ignore[arg-type]


def _shapes(pairs: Sequence[Pair]) -> list[list[Shape]]:
    return [pair.scene.shapes for pair in pairs]


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32], weight: NDArray[np.float32]) -> float:
    total = float(weight.sum()) + 1e-6
    da = a - float((a * weight).sum()) / total
    db = b - float((b * weight).sum()) / total
    power = float((da * da * weight).sum() * (db * db * weight).sum())
    return float((da * db * weight).sum()) / float(np.sqrt(power) + 1e-9)


def _convolutions(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.GroupNorm(4, outside),
        nn.GELU(),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.GELU(),
    )


def _doubled(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")

"""Putting a repaired crop back, so that no pixel outside the declared support ever changes.

The blend is done in whole numbers and only where the region's weight is above 0: everywhere else the result
is the copy it began as. The digest of the outside is the proof that is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from contracts.errors import InvalidInput, ModelError
from contracts.records import Image, Mask, RegionPlan
from controller import masks

RING = 4
"""Width in pixels of the ring around a support in which colors are compared."""
MAX_COLOR_SHIFT = 24
"""Largest correction of a channel, in levels of 255: more than this is a different scene, not a tint."""


@dataclass(frozen=True)
class Source:
    """Who painted a pixel."""

    round: int
    region: int
    candidate: int
    seed: int
    model: str
    prompt: str


@dataclass(frozen=True, eq=False)
class SourceMap:
    """Where every pixel of a result comes from."""

    layers: NDArray[np.uint16]
    """(H, W): 0 for the original, else the position in the legend, counted from 1."""
    legend: tuple[Source, ...] = ()

    @classmethod
    def pristine(cls, shape: tuple[int, int]) -> SourceMap:
        """The map of an untouched picture of `shape` (H, W)."""
        return cls(np.zeros(shape, dtype=np.uint16))

    @property
    def painted(self) -> Mask:
        """(H, W): every pixel that is not the original's."""
        return self.layers > 0

    def with_region(self, support: Mask, source: Source) -> SourceMap:
        """The map after a region was pasted; all of its support counts as painted. Raises InvalidInput after
        65,535 regions."""
        number = len(self.legend) + 1
        if number > np.iinfo(np.uint16).max:
            raise InvalidInput("a source map holds 65,535 regions at most: begin a new run from the result")
        layers = np.where(support, np.uint16(number), self.layers)
        return SourceMap(layers, (*self.legend, source))

    def describe(self) -> list[Mapping[str, object]]:
        """The legend as plain data, each entry with its layer's number and how many pixels show it."""
        counts = np.bincount(self.layers.ravel(), minlength=len(self.legend) + 1)
        return [
            {"layer": number, "pixels": int(counts[number]), **vars(source)}
            for number, source in enumerate(self.legend, start=1)
        ]


def composite(base: Image, painted: Image, region: RegionPlan, *, match_colors: bool = True) -> Image:
    """A copy of `base` (H, W, 3) with the region's crop pasted in through its weights.

    `painted` is what the painter made of the crop, (h, w, 3) in the region's target size. With
    `match_colors`, it is shifted by the difference that base and crop have in a ring around the support.
    Pixels outside the support are those of `base`. Raises ModelError for a painted crop of another size or
    type.
    """
    left, top, right, bottom = region.crop
    width, height = region.target
    if painted.dtype != np.uint8 or painted.shape != (height, width, 3):
        raise ModelError(
            f"the inpainter returned {painted.dtype} of shape {painted.shape} for a crop of {width}x{height}"
        )
    window = (slice(top, bottom), slice(left, right))
    weights, before = region.weights[window], base[window]
    after = resample(painted, (right - left, bottom - top)).astype(np.int32)
    if match_colors:
        after = np.clip(after + color_shift(before, after, weights > 0), 0, 255)
    inside = weights > 0
    share = weights[inside].astype(np.int32)[:, None]
    result = base.copy()
    result[window][inside] = (before[inside] * (255 - share) + after[inside] * share + 127) // 255
    return result


def color_shift(before: NDArray[np.integer], after: NDArray[np.integer], support: Mask) -> NDArray[np.int32]:
    """What to add to each channel of `after` so that it agrees with `before` just outside the support.

    All (h, w, ...). The painter was told to keep those pixels, so a difference there is its own tint. The
    median, 24 levels at most; 0 if the support leaves no ring.
    """
    ring = masks.grow(support, RING) & ~support
    if not ring.any():
        return np.zeros(3, dtype=np.int32)
    shift = np.median(before[ring].astype(np.int32) - after[ring], axis=0)
    return np.clip(np.round(shift), -MAX_COLOR_SHIFT, MAX_COLOR_SHIFT).astype(np.int32)


def outside_digest(image: NDArray[np.uint8], support: Mask) -> str:
    """sha256 over every pixel outside the support, the picture's shape and the support itself.

    Two pictures have the same digest for a support if and only if they agree outside it. Any number of
    channels: (H, W) or (H, W, C). Raises InvalidInput for a support of another size.
    """
    if image.shape[:2] != support.shape:
        raise InvalidInput(f"the support of shape {support.shape} is not that of the picture {image.shape}")
    content = hashlib.sha256(f"{image.shape}/{image.dtype}/".encode())
    content.update(np.packbits(support).tobytes())
    content.update(np.ascontiguousarray(image[~support]).tobytes())
    return content.hexdigest()


def resample(image: Image, size: tuple[int, int]) -> Image:
    """(h, w, 3) -> (height, width, 3) for `size` (width, height); the same pixels if it has that size."""
    if (image.shape[1], image.shape[0]) == size:
        return image.copy()
    return np.array(Pillow.fromarray(image).resize(size, Pillow.Resampling.LANCZOS), dtype=np.uint8)

"""How visible the edge of a repair is: the jump across it, compared with the jumps next to it.

Contrast is measured between neighboring pixels. A repair that fits in makes no larger step at its edge than
the picture makes anyway beside it; an object's own outline makes one with or without a repair, so a caller
compares the picture before and after.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.records import Image, Mask
from controller import masks

BAND = 3
"""How far from the edge the surroundings reach, in pixels."""
CONTOURS = (1, 128, 255)
"""Weights at which a feathered region's edge is looked for: the outer end, the middle, the inner end."""


def seam(image: Image, weights: NDArray[np.uint8]) -> float:
    """The worst jump along a region's edge, in levels: mean step across it less the mean step beside it.

    `image` is (H, W, 3), `weights` the region's (H, W). A step is the largest difference of a channel between
    two neighbors, so the result lies in -255..255; about 0 where nothing is to be seen, and 0 if the region
    has no edge (it fills the picture or is empty).
    """
    return max(_jump(image, weights >= level) for level in CONTOURS)


def _jump(image: Image, mask: Mask) -> float:
    band = masks.grow(mask, BAND) & masks.grow(~mask, BAND)
    across: list[NDArray[np.int32]] = []
    beside: list[NDArray[np.int32]] = []
    for axis in (0, 1):
        steps = np.abs(np.diff(image.astype(np.int32), axis=axis)).max(axis=-1)
        first, second = _pairs(mask, axis)
        in_band = np.logical_and(*_pairs(band, axis))
        across.append(steps[first != second])
        beside.append(steps[in_band & (first == second)])
    edge, around = np.concatenate(across), np.concatenate(beside)
    if not edge.size:
        return 0.0
    return float(edge.mean() - (around.mean() if around.size else 0.0))


def _pairs(values: Mask, axis: int) -> tuple[Mask, Mask]:
    """Each pixel and its next neighbor along an axis."""
    return (values[:-1], values[1:]) if axis == 0 else (values[:, :-1], values[:, 1:])

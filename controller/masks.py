"""Masks as sets of pixels: how near, how alike, which belong together. Pure functions over numpy."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from contracts.records import Mask, bounding_box

SAME_REGION_IOU = 0.3
SAME_REGION_INSIDE = 0.8


def iou(a: Mask, b: Mask) -> float:
    """Shared pixels over all pixels of two (H, W) masks, 0..1; 0 if both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def inside(a: Mask, b: Mask) -> float:
    """Share of `a` that lies in `b`, 0..1; 0 if `a` is empty."""
    size = int(a.sum())
    return int((a & b).sum()) / size if size else 0.0


def same_region(new: Mask, old: Mask) -> bool:
    """Is `new` the area `old` again, moved a little or shrunk?

    Not if it is much larger: an old speck does not make a new, large flaw an old acquaintance.
    """
    return iou(new, old) >= SAME_REGION_IOU or inside(new, old) >= SAME_REGION_INSIDE


def touching(a: Mask, b: Mask) -> bool:
    """Do two masks share a pixel or have neighbors, corners included?"""
    return bool((grow(a, 1.5) & b).any())


def distance(mask: Mask, limit: float) -> NDArray[np.float64]:
    """Euclidean distance in pixels of every pixel of a (H, W) picture to the nearest true one; 0 inside,
    infinite beyond `limit`."""
    result = np.full(mask.shape, np.inf)
    box, reach = bounding_box(mask), math.floor(limit)
    if box.right == 0:
        return result
    window = (
        slice(max(0, box.top - reach), box.bottom + reach),
        slice(max(0, box.left - reach), box.right + reach),
    )
    # Squared distances are separable: first along the rows, then the least over the rows within reach.
    along = _along_rows(mask[window]) ** 2
    nearest = along.copy()
    for step in range(1, min(reach, len(along) - 1) + 1):
        np.minimum(nearest[step:], along[:-step] + step**2, out=nearest[step:])
        np.minimum(nearest[:-step], along[step:] + step**2, out=nearest[:-step])
    result[window] = np.where(nearest <= limit**2, np.sqrt(nearest), np.inf)
    return result


def grow(mask: Mask, radius: float) -> Mask:
    """The mask and every pixel within `radius` of it."""
    return distance(mask, radius) <= radius


def components(mask: Mask, reach: float = 0) -> list[Mask]:
    """The parts of a mask in reading order; parts that touch, corners included, once each has grown by
    `reach` pixels are one."""
    labels = _labels(grow(mask, reach))
    order = dict.fromkeys(labels[mask].tolist())
    return [mask & (labels == label) for label in order]


def count_components(mask: Mask, reach: float, wanted: Mask) -> int:
    """How many of its `components` have a pixel in `wanted`, without a mask for each."""
    return len(np.unique(_labels(grow(mask, reach))[mask & wanted]))


def _along_rows(mask: Mask) -> NDArray[np.float64]:
    """Distance to the nearest true pixel of the same row."""
    columns = np.arange(mask.shape[1], dtype=float)
    before = np.maximum.accumulate(np.where(mask, columns, -np.inf), axis=1)
    after = np.minimum.accumulate(np.where(mask, columns, np.inf)[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.minimum(columns - before, after - columns))


def _labels(mask: Mask) -> NDArray[np.int64]:
    """A number per part, neighbors by side and corner; -1 outside. Unites runs of neighboring rows."""
    labels = np.full(mask.shape, -1, dtype=np.int64)
    parent: list[int] = []

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    above: list[tuple[int, int, int]] = []
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.astype(np.int8), [0]))))
        runs: list[tuple[int, int, int]] = []
        first = 0
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            label = len(parent)
            parent.append(label)
            while first < len(above) and above[first][1] < start:
                first += 1
            for other_start, _, other in above[first:]:
                if other_start > stop:
                    break
                parent[root(label)] = root(other)
            labels[y, start:stop] = label
            runs.append((start, stop, label))
        above = runs
    if parent:
        roots = np.array([root(i) for i in range(len(parent))])
        labels[mask] = roots[labels[mask]]
    return labels

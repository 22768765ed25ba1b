"""Between masks and the polygons in which data sets store them.

Two rules of what a polygon covers are in use. COCO's (its mask API): a pixel is inside if its center is, on a
grid five times as fine. And OpenCV's fill with corners cut to whole pixels, which includes the outline: what
LEGION's evaluation helpers use. The way back follows the edges of pixels, so COCO's rule restores each mask
exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from contracts.records import Box, Mask

Polygon = Sequence[float]
"""x1, y1, x2, y2, ... in pixels; the last corner is joined to the first."""

Corner = tuple[int, int]

_FINE = 5
"""COCO's grid: steps per pixel."""


def mask_of_polygons(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Mask:
    """Union of polygons by COCO's rule, as a mask of shape (H, W). Where they overlap, they count once."""
    mask = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        mask |= _cover(polygon, shape)
    return mask


def outlined_mask(polygons: Sequence[Polygon], shape: tuple[int, int]) -> Mask:
    """Union of polygons with their outlines, corners cut to whole pixels, as a mask of shape (H, W)."""
    mask = np.zeros(shape, dtype=bool)
    for polygon in polygons:
        corners = [(int(x), int(y)) for x, y in zip(polygon[::2], polygon[1::2], strict=True)]
        edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
        for y, left, right in _spans(edges, shape[0]):
            mask[y, max(0, left) : max(0, right + 1)] = True
        for start, end in edges:
            x, y = _line(*sorted((start, end)))
            shown = (x >= 0) & (y >= 0) & (x < shape[1]) & (y < shape[0])
            mask[y[shown], x[shown]] = True
    return mask


def mask_of_boxes(boxes: Sequence[Box], shape: tuple[int, int]) -> Mask:
    """Union of boxes, cut at the border, as a mask of shape (H, W)."""
    mask = np.zeros(shape, dtype=bool)
    for box in boxes:
        mask[max(0, box.top) : max(0, box.bottom), max(0, box.left) : max(0, box.right)] = True
    return mask


def polygons_of_mask(mask: Mask) -> list[list[float]]:
    """Polygons that cover exactly the mask by COCO's rule. Parts with holes become rectangles."""
    loops = _loops(mask)
    if any(_area(loop) < 0 for loop in loops):
        return [_corners(box) for box in _rectangles(mask)]
    return [[float(value) for corner in loop for value in corner] for loop in loops]


def area(polygon: Polygon) -> float:
    """Area inside a polygon, square pixels; parts that wind the other way count negative."""
    return abs(_area(list(zip(polygon[::2], polygon[1::2], strict=True))))


def _cover(polygon: Polygon, shape: tuple[int, int]) -> Mask:
    """COCO's rule: walk the outline on the fine grid, note where it crosses a column's center, and fill
    each column between crossings."""
    height, width = shape
    corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
    corners = np.clip(corners, -4.0 * max(shape), 5.0 * max(shape))  # far outside is outside
    fine = np.trunc(_FINE * corners + 0.5).astype(np.int64)
    steps = [_walk(start, end) for start, end in zip(fine, np.roll(fine, -1, axis=0), strict=True)]
    u, v = np.concatenate(steps, axis=1)
    moved = u[1:] != u[:-1]
    before, after = (u[:-1][moved], v[:-1][moved]), (u[1:][moved], v[1:][moved])
    column = (np.where(after[0] < before[0], after[0], after[0] - 1) + 0.5) / _FINE - 0.5
    row = (np.minimum(after[1], before[1]) + 0.5) / _FINE - 0.5
    center = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    row = np.ceil(np.clip(row[center], 0, height)).astype(np.int64)
    crossings = np.bincount(column[center].astype(np.int64) * height + row, minlength=height * width + 1)
    inside = np.cumsum(crossings[: height * width]) % 2 == 1
    return inside.reshape(width, height).T


def _walk(start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """Points (2, K) of a line on the grid, one per step along its longer side, from start to end."""
    along = int(abs(end[1] - start[1]) > abs(end[0] - start[0]))
    backward = bool(start[along] > end[along])
    low, high = (end, start) if backward else (start, end)
    length = int(high[along] - low[along])
    step = np.arange(length, -1, -1) if backward else np.arange(length + 1)
    slope = (high[1 - along] - low[1 - along]) / length if length else 0.0
    line = np.empty((2, length + 1), dtype=np.int64)
    line[along] = step + low[along]
    line[1 - along] = np.trunc(low[1 - along] + slope * step + 0.5)
    return line


def _spans(edges: Sequence[tuple[Corner, Corner]], height: int) -> Iterator[tuple[int, int, int]]:
    """(row, first, last column) of what lies between each pair of edges that a row meets."""
    for y in range(height):
        met = sorted(
            (2 * ((y - y0) * (x1 - x0)) // (y1 - y0) + 2 * x0 + 1) // 2
            for (x0, y0), (x1, y1) in edges
            if min(y0, y1) <= y < max(y0, y1)
        )
        for left, right in zip(met[::2], met[1::2], strict=True):
            yield y, left, right


def _line(left: Corner, right: Corner) -> NDArray[np.int64]:
    """Pixels (2, K) of a line, drawn from its left end as OpenCV does: halves are rounded back to it."""
    start, way = np.array(left)[:, None], np.subtract(right, left)[:, None]
    length = int(abs(way).max())
    steps = np.arange(length + 1)
    moved = -((length - 2 * abs(way) * steps) // max(1, 2 * length))
    line: NDArray[np.int64] = start + np.sign(way) * moved
    return line


def _loops(mask: Mask) -> list[list[Corner]]:
    """Corners of the outlines along pixel edges: clockwise around what is inside, so holes wind back."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    edges: dict[tuple[int, int], list[tuple[int, int]]] = {}

    def add(where: Mask, begin: tuple[int, int], end: tuple[int, int]) -> None:
        for y, x in np.argwhere(where).tolist():
            edges.setdefault((x + begin[0], y + begin[1]), []).append((x + end[0], y + end[1]))

    add(inside & ~padded[:-2, 1:-1], (0, 0), (1, 0))
    add(inside & ~padded[1:-1, 2:], (1, 0), (1, 1))
    add(inside & ~padded[2:, 1:-1], (1, 1), (0, 1))
    add(inside & ~padded[1:-1, :-2], (0, 1), (0, 0))
    loops = []
    while edges:
        first = next(iter(edges))
        loop, at, came = [first], first, (0, 0)
        while True:
            # Where two pixels touch only at a corner, turning right keeps to the pixel we go around.
            choices = edges[at]
            onward = min(choices, key=lambda to: _turn(came, (to[0] - at[0], to[1] - at[1])))
            choices.remove(onward)
            if not choices:
                del edges[at]
            came, at = (onward[0] - at[0], onward[1] - at[1]), onward
            if at == first:
                break
            loop.append(at)
        loops.append(_without_straights(loop))
    return loops


def _turn(came: tuple[int, int], goes: tuple[int, int]) -> int:
    """-1 for a turn to the right (y points down), 0 straight on, 1 to the left."""
    return -(came[0] * goes[1] - came[1] * goes[0])


def _without_straights(loop: list[tuple[int, int]]) -> list[tuple[int, int]]:
    count = len(loop)
    return [
        corner
        for i, corner in enumerate(loop)
        if not (loop[i - 1][0] == corner[0] == loop[(i + 1) % count][0])
        and not (loop[i - 1][1] == corner[1] == loop[(i + 1) % count][1])
    ]


def _area(corners: Sequence[tuple[float, float]]) -> float:
    """Signed area: positive if clockwise on screen."""
    following = [*corners[1:], *corners[:1]]
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(corners, following, strict=True)) / 2


def _rectangles(mask: Mask) -> list[Box]:
    """The mask as rectangles: runs of a row, continued downward while the next row has the same run."""
    done: list[Box] = []
    running: dict[tuple[int, int], int] = {}
    for y in range(mask.shape[0] + 1):
        runs = _runs(mask[y]) if y < mask.shape[0] else []
        for ended in [run for run in running if run not in runs]:
            done.append(Box(ended[0], running.pop(ended), ended[1], y))
        for run in runs:
            running.setdefault(run, y)
    return done


def _runs(row: Mask) -> list[tuple[int, int]]:
    change = np.flatnonzero(np.diff(np.pad(row.astype(np.int8), 1)))
    return [(int(begin), int(end)) for begin, end in change.reshape(-1, 2)]


def _corners(box: Box) -> list[float]:
    left, top, right, bottom = map(float, box)
    return [left, top, right, top, right, bottom, left, bottom]

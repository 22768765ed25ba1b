"""Looking closer: the picture as overlapping tiles at several scales, and what they say as one diagnosis.

A defender sees every picture at its own size, so what covers less than a hundredth of a large picture is a
few pixels to it (the limitation that arXiv 2503.15264 names). Here it is also shown tiles, each a part of the
picture enlarged, as slicing-aided detectors do (arXiv 2202.06934). What tiles and scales say of the same
place is merged by mask IoU and containment. Works with any contracts.protocols.Defender.

Every tile is one more chance of a false alarm, so a finding has to be surer than in one look:
`benchmarks/small_artifacts.py` chooses that limit, and shows what tiles buy at an equal false-alarm rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from contracts.errors import InvalidInput
from contracts.protocols import Defender
from contracts.records import Box, Diagnosis, Finding, Image

MAX_ZOOM = 16
_TILES_AT_ONCE = 64
"""Tiles handed to the defender in one call; they are cut when their turn comes."""


@dataclass(frozen=True)
class Tiling:
    """How closely to look, and what counts."""

    zoom: int = 3
    """The smallest tiles show 1/zoom of the longer side. 1 means the whole view alone."""
    overlap: float = 0.5
    """Share of a tile's side that it has in common with the next one, at least; 0 up to below 1."""
    smallest: int = 64
    """No tile is made smaller than this many pixels: enlarging a few pixels shows nothing new."""
    min_confidence: float | None = None
    """What is said less surely than this is dropped, 0..1, be it of a tile or of the whole view. None: what
    the defender was calibrated to (`legion calibrate --tiles`), or nothing is dropped."""
    same_iou: float = 0.5
    """Findings whose masks overlap by this IoU are one."""
    same_containment: float = 0.7
    """So are findings of which one lies inside the other by this share of its area."""

    def __post_init__(self) -> None:
        if not 1 <= self.zoom <= MAX_ZOOM:
            raise InvalidInput(f"tiles cannot be enlarged {self.zoom} times: choose from 1 to {MAX_ZOOM}")
        if not 0 <= self.overlap < 1 or self.smallest < 1:
            raise InvalidInput("tiles must overlap by a share from 0 to below 1 and be a pixel wide or more")


class TiledDefender:
    """A defender that looks at the whole picture and then at its tiles."""

    def __init__(self, inner: Defender, tiling: Tiling | None = None) -> None:
        self.inner, self.tiling = inner, tiling or Tiling()
        self.name = inner.name

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        """One diagnosis per picture; the verdict and the text are the whole view's. Raises as `inner`."""
        wholes = self.inner.diagnose(images)
        return [self._closer(image, whole) for image, whole in zip(images, wholes, strict=True)]

    def describe(self) -> Mapping[str, object]:
        """What `inner` says of itself, and the tiling."""
        tiling = {**asdict(self.tiling), "min_confidence": self.min_confidence}
        return {**self.inner.describe(), "tiling": tiling}

    @cached_property
    def min_confidence(self) -> float:
        """The limit in use, 0..1."""
        if self.tiling.min_confidence is not None:
            return self.tiling.min_confidence
        calibrated = self.inner.describe().get("thresholds")
        return float(calibrated.get("tile_confidence", 0.0)) if isinstance(calibrated, Mapping) else 0.0

    def _closer(self, image: Image, whole: Diagnosis) -> Diagnosis:
        height, width = image.shape[:2]
        # The whole view comes first: of equals it is the one that has seen the context.
        seen, usage = list(whole.findings), whole.usage
        for box, diagnosis in self._look(image):
            seen += findings_of_tile(diagnosis, box, height, width)
            usage += diagnosis.usage
        sure = [finding for finding in seen if finding.confidence >= self.min_confidence]
        merged = merge(sure, self.tiling.same_iou, self.tiling.same_containment)
        return replace(whole, findings=tuple(merged), usage=usage)

    def _look(self, image: Image) -> Iterator[tuple[Box, Diagnosis]]:
        boxes = plan(image.shape[0], image.shape[1], self.tiling)
        for start in range(0, len(boxes), _TILES_AT_ONCE):
            some = boxes[start : start + _TILES_AT_ONCE]
            tiles = [np.ascontiguousarray(image[b.top : b.bottom, b.left : b.right]) for b in some]
            yield from zip(some, self.inner.diagnose(tiles), strict=True)


def plan(height: int, width: int, tiling: Tiling) -> list[Box]:
    """Tiles of all scales, coarse ones first, rows from the top; none where the whole view shows it all.

    A tile is a square, or as high or wide as the picture where that is less.
    """
    boxes: list[Box] = []
    sides: set[int] = set()
    for zoom in scales(tiling.zoom):
        side = max(math.ceil(max(height, width) / zoom), tiling.smallest)
        if side >= max(height, width) or side in sides:
            continue
        sides.add(side)
        boxes += [
            Box(left, top, left + min(side, width), top + min(side, height))
            for top in starts(height, side, tiling.overlap)
            for left in starts(width, side, tiling.overlap)
        ]
    return boxes


def scales(zoom: int) -> list[int]:
    """2, 4, 8, ... up to `zoom`, and `zoom` itself; none for 1."""
    return [*(z for z in (2**k for k in range(1, 31)) if z < zoom), zoom] if zoom > 1 else []


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where tiles of `side` begin so that they cover `length` evenly and overlap by the share or more."""
    if side >= length:
        return [0]
    steps = math.ceil((length - side) / max(1, math.floor(side * (1 - overlap))))
    return [round(i * (length - side) / steps) for i in range(steps + 1)]


def findings_of_tile(diagnosis: Diagnosis, box: Box, height: int, width: int) -> list[Finding]:
    """A tile's findings with masks at the size of the picture (H, W).

    What the tile's border cuts, other than where the picture itself ends, is left out: a tile that overlaps
    or a coarser one shows it whole, and half of a sound object looks broken.
    """
    findings = []
    for finding in diagnosis.findings:
        found = finding.box
        cut = (
            (found.left == 0 and box.left > 0)
            or (found.top == 0 and box.top > 0)
            or (found.right == box.right - box.left and box.right < width)
            or (found.bottom == box.bottom - box.top and box.bottom < height)
        )
        if not cut:
            mask = np.zeros((height, width), dtype=bool)
            mask[box.top : box.bottom, box.left : box.right] = finding.mask
            findings.append(replace(finding, mask=mask))
    return findings


def merge(findings: Sequence[Finding], same_iou: float, same_containment: float) -> list[Finding]:
    """Each artifact once: the surest finding of it, in the order of first mention; the first one if tied.

    Two findings are the same artifact if they have the same category and overlap by `same_iou`, or one lies
    inside the other by `same_containment`. A finding that equals two others does not join those.
    """
    surest = sorted(range(len(findings)), key=lambda i: (-findings[i].confidence, i))
    kept: list[int] = []
    for i in surest:
        if not any(same(findings[i], findings[j], same_iou, same_containment) for j in kept):
            kept.append(i)
    return [findings[i] for i in sorted(kept)]


def same(a: Finding, b: Finding, same_iou: float, same_containment: float) -> bool:
    """Whether two findings are of one artifact."""
    if a.category != b.category:
        return False
    smaller = min(int(a.mask.sum()), int(b.mask.sum()))
    shared = int((a.mask & b.mask).sum()) if smaller else 0
    if shared == 0:
        return False
    union = int((a.mask | b.mask).sum())
    return shared / union >= same_iou or shared / smaller >= same_containment

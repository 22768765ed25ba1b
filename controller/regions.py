"""Which areas to repair, in what order, and how each is cut out. Pure functions of findings and masks.

Findings are filtered, merged where their masks say the same, grown and feathered in proportion, kept off
protected pixels, and put in order of what a repair can gain. A mask that a person drew takes the place of the
findings' own: everything inside it may change and nothing outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidInput, ModelError, UnusableSetting
from contracts.records import Box, Finding, InpaintRequest, LeftOut, Mask, RegionPlan, bounding_box
from controller import masks
from controller.compositing import resample
from controller.gate import confidence, weight

EMPTY_MASK = "the mask is empty: paint white what may change"


@dataclass(frozen=True)
class RegionSettings:
    """What is worth a repair and how it is cut out. Raises InvalidInput for numbers that make no plan."""

    min_confidence: float = 0.3
    """Findings below this are left alone, 0..1."""
    min_area: float = 0.0005
    """Smallest share of the picture that a finding may cover, 0..1."""
    max_area: float = 1.0
    """Largest share of the picture that a finding may cover, 0..1."""
    top_k: int = 8
    """Regions per picture and round, 1 or more."""
    merge_iou: float = 0.5
    """Findings whose masks share at least this much of their union are one region, above 0 up to 1."""
    merge_inside: float = 0.8
    """Findings of which one has at least this share inside the other are one region, above 0 up to 1."""
    dilate: float = 0.1
    """How far a region grows, as a share of its size (the square root of its pixels), 0 or more."""
    feather: float = 0.1
    """How wide the soft edge beyond that is, as a share of its size, 0 or more."""
    dilate_pixels: int | None = None
    """Overrides `dilate`, 0 or more."""
    feather_pixels: int | None = None
    """Overrides `feather`, 0 or more."""
    context: float = 0.5
    """Context on each side of a region that the painter sees, as a share of the region's longer side, 0 or
    more."""
    max_enlargement: float = 4.0
    """A small region gets more context rather than being enlarged more than this, 1 or more."""

    def __post_init__(self) -> None:
        for name in ("min_confidence", "min_area", "max_area"):
            _require(name, getattr(self, name), 0, 1, "0 to 1")
        if self.min_area > self.max_area:
            raise UnusableSetting(
                f"{{0}} is {self.min_area}, above {{1}} {self.max_area}: choose a smaller {{0}} or a larger "
                "{1}",
                "min_area",
                "max_area",
            )
        for name in ("merge_iou", "merge_inside"):
            _require(name, getattr(self, name), math.ulp(0), 1, "above 0 up to 1")
        for name in ("dilate", "feather", "context"):
            _require(name, getattr(self, name), 0, 100, "0 to 100")
        for name in ("dilate_pixels", "feather_pixels"):
            if getattr(self, name) is not None:
                _require(name, getattr(self, name), 0, 10_000, "0 to 10000")
        _require("top_k", self.top_k, 1, math.inf, "1 or more")
        _require("max_enlargement", self.max_enlargement, 1, math.inf, "1 or more")


@dataclass(frozen=True)
class PaintingSize:
    """The size a painter works at: its native width and height, both multiples of `alignment`.

    Raises InvalidInput if they are not.
    """

    width: int
    height: int
    alignment: int = 8

    def __post_init__(self) -> None:
        sides = (self.width, self.height)
        if self.alignment < 1 or any(side < 1 or side % self.alignment for side in sides):
            raise InvalidInput(
                f"a painting size of {self.width}x{self.height} cannot be used: both sides must be multiples "
                f"of {self.alignment}"
            )


@dataclass(frozen=True, eq=False)
class Plan:
    """What to repair in one picture, the most rewarding region first, and what not, with reasons.

    A region with several findings is the log of their merging.
    """

    regions: tuple[RegionPlan, ...]
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, eq=False)
class _Area:
    findings: tuple[Finding, ...]
    mask: Mask


def plan_regions(
    findings: Sequence[Finding],
    shape: tuple[int, int],
    settings: RegionSettings,
    size: PaintingSize,
    *,
    user_mask: Mask | None = None,
    protected: Mask | None = None,
    given_up: Sequence[Mask] = (),
) -> Plan:
    """What to repair in a picture of `shape` (H, W).

    `user_mask` (H, W): exactly these pixels may change, each of its parts is a region, and findings outside
    it are left alone. `protected` (H, W): these never change. `given_up`: cores of regions not to be tried
    again. The order of the findings does not matter. Raises InvalidInput for a mask of another size or an
    empty `user_mask`, ModelError for a finding of another size or without a usable confidence.
    """
    for finding in findings:
        confidence(finding)
        if finding.mask.shape != shape:
            raise ModelError(
                f"the finding {finding.phrase!r} has a mask of {_size(finding.mask.shape)} pixels in a "
                f"picture of {_size(shape)}"
            )
    check_area(user_mask, shape, "mask")
    check_area(protected, shape, "protected mask")
    if user_mask is not None and not user_mask.any():
        raise InvalidInput(EMPTY_MASK)
    kept, left_out = _filter(findings, settings, user_mask)
    areas = _merge(kept, settings) if user_mask is None else _areas_of(user_mask, kept)
    regions: list[RegionPlan] = []
    for area in areas:
        weights = _weights(area.mask, settings, inward=user_mask is not None)
        core = area.mask
        if protected is not None:
            weights, core = np.where(protected, np.uint8(0), weights), core & ~protected
        if reason := _hopeless(core, given_up):
            left_out.append(LeftOut(area.findings, area.mask, reason))
        else:
            regions.append(_region(area.findings, core, weights, settings, size))
    regions.sort(key=_rank)
    # What a person drew is all wanted, however many parts it has.
    count = settings.top_k if user_mask is None else len(regions)
    reason = f"beyond the {settings.top_k} best regions"
    left_out += [LeftOut(region.findings, region.core, reason) for region in regions[count:]]
    return Plan(tuple(regions[:count]), tuple(left_out))


def count_parts(user_mask: Mask, protected: Mask | None = None) -> int:
    """Regions that `plan_regions` makes of a person's mask, however many."""
    wanted = user_mask if protected is None else user_mask & ~protected
    return masks.count_components(user_mask, _brush_reach(user_mask), wanted)


def group_disjoint(regions: Sequence[RegionPlan]) -> list[tuple[RegionPlan, ...]]:
    """Regions that may be painted in one call: no two supports of a group touch. Order is kept."""
    groups: list[list[RegionPlan]] = []
    for region in regions:
        near = masks.grow(region.support, 1.5)
        fitting = (g for g in groups if not any((near & other.support).any() for other in g))
        if (group := next(fitting, None)) is None:
            groups.append([region])
        else:
            group.append(region)
    return [tuple(group) for group in groups]


def crop_box(support: Mask, settings: RegionSettings, size: PaintingSize) -> Box:
    """What a painter is shown of a (H, W) picture: the support, context on all sides, and as much more as
    makes it the painter's own shape, as far as the picture reaches. Always inside the picture."""
    height, width = support.shape
    box = bounding_box(support)
    wide, high = box.right - box.left, box.bottom - box.top
    margin = math.ceil(settings.context * max(wide, high))
    scale = max(
        (wide + 2 * margin) / size.width, (high + 2 * margin) / size.height, 1 / settings.max_enlargement
    )
    left, right = _span(box.left, box.right, math.ceil(size.width * scale), width)
    top, bottom = _span(box.top, box.bottom, math.ceil(size.height * scale), height)
    return Box(left, top, right, bottom)


def target_size(crop: Box, size: PaintingSize) -> tuple[int, int]:
    """Width and height at which a crop is painted: its own shape as nearly as the alignment allows, with no
    more pixels than the native size."""
    wide, high = crop.right - crop.left, crop.bottom - crop.top
    scale = math.sqrt(size.width * size.height / (wide * high))
    # A crop that differs from the native shape by rounding alone is painted at the native size.
    if abs(wide / high * size.height / size.width - 1) < 1 / max(2, min(wide, high)):
        return size.width, size.height
    step, budget = size.alignment, size.width * size.height
    short = max(step, round(min(wide, high) * scale / step) * step)
    long = max(step, round(max(wide, high) * scale / step) * step)
    short = min(short, budget // step // step * step)
    long = min(long, budget // short // step * step)
    return (long, short) if wide >= high else (short, long)


def crop_request(
    image: NDArray[np.uint8],
    region: RegionPlan,
    prompt: str,
    seed: int,
    *,
    negative_prompt: str = "",
    strength: float = 1.0,
) -> InpaintRequest:
    """The region of an (H, W, 3) picture as a painter gets it: resampled to the region's target size, with
    every target pixel masked that covers a pixel of the support."""
    left, top, right, bottom = region.crop
    window = (slice(top, bottom), slice(left, right))
    crop = resample(image[window], region.target)
    mask = _cover(region.support[window], region.target)
    return InpaintRequest(crop, mask, prompt, seed, negative_prompt, strength)


def _require(name: str, value: float, low: float, high: float, range_: str) -> None:
    if not low <= value <= high:  # a NaN fails too
        raise UnusableSetting(f"{{}} is {value}: choose {range_}", name)


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(str(side) for side in shape[:2][::-1])


def check_area(mask: Mask | None, shape: tuple[int, ...], what: str) -> None:
    """Raises InvalidInput for a mask that is not of the picture's shape (H, W); None is none."""
    if mask is not None and mask.shape != shape:
        raise InvalidInput(
            f"the {what} has {_size(mask.shape)} pixels and the picture {_size(shape)}: make them the same "
            f"size"
        )


def _filter(
    findings: Sequence[Finding], settings: RegionSettings, user_mask: Mask | None
) -> tuple[list[Finding], list[LeftOut]]:
    kept: list[Finding] = []
    left_out: list[LeftOut] = []
    for finding in findings:
        reason = _unfit(finding, settings, user_mask)
        if reason:
            left_out.append(LeftOut((finding,), finding.mask, reason))
        else:
            kept.append(finding)
    return kept, left_out


def _unfit(finding: Finding, settings: RegionSettings, user_mask: Mask | None) -> str | None:
    if not finding.mask.any():
        return "marks no pixel"
    if finding.confidence < settings.min_confidence:
        return f"confidence {finding.confidence:.2f} is below {settings.min_confidence:g}"
    if finding.area < settings.min_area:
        return f"covers {100 * finding.area:.3g} % of the picture, less than {100 * settings.min_area:g} %"
    if finding.area > settings.max_area:
        return f"covers {100 * finding.area:.3g} % of the picture, more than {100 * settings.max_area:g} %"
    if user_mask is not None and not (finding.mask & user_mask).any():
        return "outside the mask"
    return None


def _merge(findings: Sequence[Finding], settings: RegionSettings) -> list[_Area]:
    """One area per set of findings whose masks say the same, until no two areas do."""
    areas = [_Area((finding,), finding.mask) for finding in findings]
    while True:
        # All links of one pass are drawn before any merging, so that the order of the findings cannot matter.
        groups: list[list[_Area]] = []
        for area in areas:
            linked = [g for g in groups if any(_alike(area.mask, other.mask, settings) for other in g)]
            groups = [g for g in groups if g not in linked] + [[area, *(a for g in linked for a in g)]]
        if len(groups) == len(areas):
            return areas
        areas = [_join(group) for group in groups]


def _alike(a: Mask, b: Mask, settings: RegionSettings) -> bool:
    if masks.iou(a, b) >= settings.merge_iou:
        return True
    return max(masks.inside(a, b), masks.inside(b, a)) >= settings.merge_inside


def _join(areas: Sequence[_Area]) -> _Area:
    findings = [finding for area in areas for finding in area.findings]
    findings.sort(key=lambda f: (-weight(f), f.box, f.phrase))
    return _Area(tuple(findings), np.logical_or.reduce([area.mask for area in areas]))


def _areas_of(user_mask: Mask, findings: Sequence[Finding]) -> list[_Area]:
    """The parts of a person's mask, each with the findings it meets."""
    parts = masks.components(user_mask, _brush_reach(user_mask))
    return [_Area(tuple(f for f in findings if (f.mask & part).any()), part) for part in parts]


def _brush_reach(user_mask: Mask) -> int:
    """Brush strokes this many pixels from each other mean one thing."""
    return max(1, int(max(user_mask.shape)) // 100)


def _weights(mask: Mask, settings: RegionSettings, *, inward: bool) -> NDArray[np.uint8]:
    """255 in the grown area, falling to 0 across the feather. With `inward` the support is the mask itself,
    and 255 is reached within it."""
    side = math.sqrt(mask.sum())
    soft = _pixels(settings.feather_pixels, settings.feather, side)
    if inward:
        away = np.minimum(masks.distance(~mask, soft + 1), soft + 1)
        share = away / away.max()
    else:
        grown = _pixels(settings.dilate_pixels, settings.dilate, side)
        away = masks.distance(mask, grown + soft + 1)
        share = np.clip(1 - (away - grown) / (soft + 1), 0, 1)
    return np.asarray(np.ceil(255 * share), dtype=np.uint8)


def _pixels(absolute: int | None, share: float, side: float) -> int:
    if absolute is not None:
        return absolute
    return max(1, round(share * side)) if share else 0


def _hopeless(core: Mask, given_up: Sequence[Mask]) -> str | None:
    if not core.any():
        return "lies in the protected area"
    return "given up after earlier tries" if any(masks.same_region(core, old) for old in given_up) else None


def _region(
    findings: tuple[Finding, ...],
    core: Mask,
    weights: NDArray[np.uint8],
    settings: RegionSettings,
    size: PaintingSize,
) -> RegionPlan:
    support = weights > 0
    crop = crop_box(support, settings, size)
    # Per painted pixel the picture's size cancels out.
    gain = math.fsum(weight(f) for f in findings) / float(support.mean())
    return RegionPlan(findings, core, weights, crop, target_size(crop, size), gain)


def _rank(region: RegionPlan) -> tuple[float, int, Box]:
    """More gain first; of the same gain the larger, then the one nearer to the upper left."""
    box = bounding_box(region.core)
    return -region.gain, -int(region.core.sum()), Box(box.top, box.left, box.bottom, box.right)


def _span(first: int, last: int, length: int, limit: int) -> tuple[int, int]:
    """`length` pixels, as far as the picture has them, around first..last, moved inside 0..limit."""
    length = min(length, limit)
    start = min(max((first + last - length) // 2, 0), limit - length)
    return start, start + length


def _cover(mask: Mask, target: tuple[int, int]) -> Mask:
    """(h, w) -> (target height, target width), true wherever any part of the target pixel is."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), dtype=np.int64)
    total[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    top, bottom = _intervals(mask.shape[0], target[1])
    left, right = _intervals(mask.shape[1], target[0])
    rows = total[bottom] - total[top]
    return np.asarray(rows[:, right] - rows[:, left] > 0)


def _intervals(source: int, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last-plus-one source pixel that each target pixel covers, in whole numbers."""
    i = np.arange(target, dtype=np.int64)
    return i * source // target, -((i + 1) * source // -target)

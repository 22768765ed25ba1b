"""What painting a region costs: its crop against the whole picture, and regions together against one by one.

A sheet of nine pictures of the world, 192 pixels wide, of which four have a region to repaint. Painters that
are exact, one crop per model call, and such that paint in batches stand side by side. All ways take turns
within every repetition, so that what else the machine does meets them alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.bench import Row, Said
from contracts.intervals import Interval, bootstrap, ratio, resample
from contracts.protocols import Inpainter
from contracts.records import Finding, Image, InpaintRequest, Mask
from controller.regions import PaintingSize, Plan, RegionSettings, crop_request, plan_regions
from tabletop.render import render
from tabletop.scenes import sample_scene

REGIONS, SIDE, GRID = 4, 64, 3
_SPOT = slice(22, 42)
_CORNERS = ((0, 0), (0, 2), (2, 0), (2, 2))
_PROMPT = "a red cone on a wooden table"


def rows(
    painters: Mapping[str, Inpainter], settings: RegionSettings, repeats: int, first_seed: int
) -> list[Row | Said]:
    """Seconds of each way and how they compare, for painters by what they are called."""
    picture = _sheet(first_seed)
    plan = _plan(next(iter(painters.values())), settings)
    crops = [crop_request(picture, region, _PROMPT, i) for i, region in enumerate(plan.regions)]
    everything = np.logical_or.reduce([region.support for region in plan.regions])
    whole = InpaintRequest(picture, everything, _PROMPT, 0)
    ways = [way for painter in painters.values() for way in _ways(painter, crops, whole)]
    for way in ways:
        way()  # the first call of a size is slower
    seconds = np.empty((repeats, len(ways)))
    for i in range(repeats):
        for k in np.roll(np.arange(len(ways)), i):
            seconds[i, k] = _seconds(ways[k])
    table: list[Row | Said] = [
        Said("cost: threads of the painter, processor cores", "", f"{torch.get_num_threads()}, {_cores()}")
    ]
    for number, name in enumerate(painters):
        table += _of_painter(name, seconds[:, 3 * number : 3 * number + 3], len(crops))
    return table


def _ways(
    painter: Inpainter, crops: list[InpaintRequest], whole: InpaintRequest
) -> list[Callable[[], object]]:
    return [
        lambda: painter.inpaint(crops),
        lambda: [painter.inpaint([crop]) for crop in crops],
        lambda: painter.inpaint([whole]),
    ]


def _of_painter(name: str, seconds: NDArray[np.float64], n: int) -> list[Row]:
    """From (repeats, 3) seconds: crops in one call, one by one, and the whole picture once."""
    together, one_by_one, once = seconds.T
    wide = GRID * SIDE
    # One crop per model call cannot be quicker for being asked for together.
    bar = "" if name == "exact" else ">= 1.5"
    claim = f"{name}, seconds per region"
    return [
        Row(f"{claim}: crops in one call", "", bootstrap(together / n), "plain"),
        Row(f"{claim}: crops one by one", "", bootstrap(one_by_one / n), "plain"),
        Row(f"{claim}: the whole {wide}-pixel picture each time", "", bootstrap(once), "plain"),
        Row(
            f"{name}: crops in one call, times as fast as whole pictures",
            "> 1",
            _times(n * once, together),
            "plain",
        ),
        Row(
            f"{name}: {n} regions in one call, times as fast as one by one",
            bar,
            _times(one_by_one, together),
            "plain",
        ),
    ]


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _sheet(first_seed: int) -> Image:
    pictures = [render(sample_scene(first_seed + i, 1), SIDE).image for i in range(GRID * GRID)]
    lines = [np.concatenate(pictures[i : i + GRID], axis=1) for i in range(0, GRID * GRID, GRID)]
    return np.concatenate(lines)


def _plan(inpainter: Inpainter, settings: RegionSettings) -> Plan:
    shape = (GRID * SIDE, GRID * SIDE)
    findings = [Finding(_spot(shape, *corner), "the cone", "", "structure", 1.0) for corner in _CORNERS]
    size = PaintingSize(*inpainter.native_size, inpainter.alignment)
    return plan_regions(findings[:REGIONS], shape, settings, size)


def _spot(shape: tuple[int, int], row: int, column: int) -> Mask:
    mask = np.zeros(shape, bool)
    mask[row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE][_SPOT, _SPOT] = True
    return mask


def _seconds(way: Callable[[], object]) -> float:
    begun = time.perf_counter()
    way()
    return time.perf_counter() - begun


def _times(slow: NDArray[np.float64], fast: NDArray[np.float64]) -> Interval:
    return resample(ratio(slow, fast), len(fast))

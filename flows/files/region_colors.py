"""One color for each place that is repaired, wherever it is shown: badge, plan, close-up and source map.

Colors are numbers for `flows.files.pictures.color_of`. Regions are counted anew in every round, so that their
number says nothing about the place: region 1 of round 2 may be what region 2 of round 1 was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import TypeAlias

from contracts.records import Mask, Run
from controller import masks
from controller.compositing import Source

RegionColors: TypeAlias = Mapping[tuple[int, int], int]
"""By round and region, both counted from 1."""


def region_colors(run: Run) -> RegionColors:
    """The colors of a run's regions: those of the first round count up, and a later try of a place keeps its
    color. Two regions of one round never share one."""
    places: list[Mask] = []
    colors: dict[tuple[int, int], int] = {}
    for item in run.rounds:
        taken: set[int] = set()
        for number, repair in enumerate(item.repairs or (), start=1):
            core = repair.plan.core
            color = next((c for c in _known(core, places) if c not in taken), len(places) + 1)
            if color > len(places):
                places.append(core)
            taken.add(color)
            colors[item.index, number] = color
    return colors


def layer_colors(legend: Sequence[Source], regions: RegionColors) -> list[int]:
    """The color of each layer of a source map: its region's, or where an earlier layer has that, a free one,
    for each layer is told from all others."""
    chosen: list[int] = []
    reserved = set(regions.values())
    for source in legend:
        color = regions[source.round, source.region]
        if color in chosen:
            color = next(free for free in count(1) if free not in reserved)
            reserved.add(color)
        chosen.append(color)
    return chosen


def _known(core: Mask, places: Sequence[Mask]) -> Iterator[int]:
    """The colors of the places that a core is again."""
    return (color for color, place in enumerate(places, start=1) if masks.same_region(core, place))

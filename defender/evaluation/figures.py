"""What an evaluation says: figures with their intervals, by group of pictures; and how rows become figures.

A row is what was measured on one picture: JSON-ready values under short names, with "index", "name" and
"group". The picture is the unit of every interval, so findings of one picture never count as independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from contracts.intervals import Interval, Statistic, bootstrap, ratio, resample

Row: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One cell of the table."""

    group: str
    """Which pictures; "" where they are not divided."""
    name: str
    interval: Interval
    pictures: int
    """How many pictures the figure is of."""
    difference: bool = False
    """Points lost or gained and not a share."""


def mean_of(group: str, name: str, values: ArrayLike, difference: bool = False) -> list[Figure]:
    """The mean of one value per picture; nothing where there are none."""
    x = np.asarray(values, float)
    return [Figure(group, name, bootstrap(x), len(x), difference)] if len(x) else []


def mean_of_lists(group: str, name: str, lists: Sequence[Sequence[float]]) -> list[Figure]:
    """The mean over all values, where a picture gives several; nothing where none gives any."""
    lists = [values for values in lists if len(values)]
    return ratio_of(group, name, [float(np.sum(v)) for v in lists], [len(v) for v in lists])


def ratio_of(
    group: str, name: str, over: Sequence[float], under: Sequence[float], difference: bool = False
) -> list[Figure]:
    """Sum by sum, one of each per picture; nothing where there is nothing below."""
    if not np.sum(under):
        return []
    return [Figure(group, name, resample(ratio(over, under), len(over)), len(over), difference)]


def figure_of(group: str, name: str, statistic: Statistic, pictures: int) -> list[Figure]:
    """Any statistic of the pictures; nothing where it is undefined."""
    interval = resample(statistic, pictures)
    return [] if np.isnan(interval.mean) else [Figure(group, name, interval, pictures)]


def by_group(rows: Sequence[Row], figures: Callable[[str, Sequence[Row]], Iterable[Figure]]) -> list[Figure]:
    """The same figures for each group, in order of appearance; over all at the end if there are several."""
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(row["group"], []).append(row)
    found = [figure for group, members in parts.items() for figure in figures(group, members)]
    if len(parts) > 1:
        found += figures("all", rows)
    return found

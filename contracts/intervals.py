"""A measured figure with its 95 % interval: how far it could move had other units been drawn.

By bootstrap, or, for shares, after Wilson.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
Z = 1.959964
"""Standard deviations of a normal distribution between which 95 % of it lie."""
_NUMBERS_AT_ONCE = 2_000_000
_MOST_REMEMBERED = 1_000
"""Units whose draws are kept: 20 MB for as many."""

Statistic: TypeAlias = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From how often each unit was drawn, (R, N), to a figure per draw, (R,); nan where a draw has none."""


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float

    def percent(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def points(self) -> str:
        """For differences of shares."""
        return f"{100 * self.mean:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"

    def plain(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def wilson(successes: int, of: int) -> Interval:
    """A share of `of` tries with Wilson's score interval, which is honest for few tries (Wilson 1927). Of no
    tries nothing is known: 0..1 around one half."""
    if of == 0:
        return Interval(0.5, 0.0, 1.0)
    share, weight = successes / of, 1 + Z * Z / of
    center = (share + Z * Z / (2 * of)) / weight
    spread = Z / weight * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of))
    return Interval(share, max(0.0, center - spread), min(1.0, center + spread))


def wilson_difference(successes: int, of: int, other_successes: int, other_of: int) -> Interval:
    """How much larger the first share is, after Newcombe (1998, method 10), from both Wilson intervals."""
    one, two = wilson(successes, of), wilson(other_successes, other_of)
    return Interval(
        one.mean - two.mean,
        one.mean - two.mean - math.hypot(one.mean - one.low, two.high - two.mean),
        one.mean - two.mean + math.hypot(one.high - one.mean, two.mean - two.low),
    )


def ratio(over: ArrayLike, under: ArrayLike) -> Statistic:
    """Sum of `over` by sum of `under`, one of each per unit: a mean of values that come in groups."""
    numerators, denominators = np.asarray(over, float), np.asarray(under, float)

    def of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        values = np.full(len(counts), np.nan)
        total = counts @ denominators
        np.divide(counts @ numerators, total, out=values, where=total != 0)
        return values

    return of


def auc(scores: ArrayLike, truth: ArrayLike, units: ArrayLike) -> Statistic:
    """Area under the ROC curve of `scores` (N,) for the boolean `truth` (N,), each of a unit, by number."""
    values, positive, unit = np.asarray(scores, float), np.asarray(truth, bool), np.asarray(units, np.int64)
    above, below = values[positive], values[~positive]
    wins = (above[:, None] > below) + 0.5 * (above[:, None] == below)

    def of(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = counts[:, unit]
        high, low = drawn[:, positive], drawn[:, ~positive]
        areas = np.full(len(counts), np.nan)
        pairs = high.sum(axis=1) * low.sum(axis=1)
        np.divide((high @ wins * low).sum(axis=1), pairs, out=areas, where=pairs != 0)
        return areas

    return of


def bootstrap(values: ArrayLike, seed: int = 0) -> Interval:
    """Mean of one value per unit. For a paired comparison pass the differences."""
    x = np.asarray(values, float)
    return resample(ratio(x, np.ones(len(x))), len(x), seed)


def resample(statistic: Statistic, units: int, seed: int = 0) -> Interval:
    """A figure of all `units`, and its spread over RESAMPLES draws of as many, with return.

    Draws of which the statistic makes nothing (nan) are left out. The same seed gives the same interval. No
    units have no figure: all three numbers are nan.
    """
    if units == 0:
        return Interval(np.nan, np.nan, np.nan)
    draws = _remembered(units, seed) if units <= _MOST_REMEMBERED else _draws(units, seed)
    drawn = [statistic(counts.astype(float)) for counts in draws]
    figure = float(statistic(np.ones((1, units)))[0])
    values = np.concatenate(drawn)
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return Interval(figure, float(low), float(high))


def _draws(units: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """How often each unit is drawn, (R, N), in parts that fit into memory."""
    rng = np.random.default_rng(seed)
    at_once = min(RESAMPLES, max(1, _NUMBERS_AT_ONCE // units))
    for start in range(0, RESAMPLES, at_once):
        rows = min(at_once, RESAMPLES - start)
        picks = rng.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(picks.ravel(), minlength=rows * units).reshape(rows, units).astype(np.uint16)


@lru_cache(maxsize=4)
def _remembered(units: int, seed: int) -> tuple[NDArray[np.uint16], ...]:
    """The same draws serve every figure of as many units; drawing them is most of the work."""
    return tuple(_draws(units, seed))

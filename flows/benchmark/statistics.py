"""The statistics of paired arms. Pure functions of arrays (P, K): P prompts, K seeds each, no value missing.

The prompt is the unit: intervals come from 10,000 or more draws of whole prompts with all their seeds (a
clustered bootstrap), and arms are compared on the same prompt and seed, so that luck with a prompt or with
its noise is no advantage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.intervals import RESAMPLES, Interval, ratio, resample

SMALLEST = 0.05
"""Share of their mean that all values must have for single ratios to mean something."""
_AT_ONCE = 2_000_000


class Outcomes(NamedTuple):
    """Shares of pairs, 0..1; they add up to 1."""

    win: float
    tie: float
    loss: float


def mean(values: ArrayLike) -> Interval:
    """Mean of all values. For a paired comparison pass the differences."""
    x = _grid(values)
    return resample(ratio(x.sum(axis=1), np.full(len(x), x.shape[1])), len(x))


def difference(ours: ArrayLike, other: ArrayLike) -> Interval:
    """Mean of ours less the other's, pair by pair."""
    a, b = _pair(ours, other)
    return mean(a - b)


def mean_growth(after: ArrayLike, before: ArrayLike) -> Interval | None:
    """Growth as the mean of ratios: the mean over pairs of after / before - 1.

    None where a value before is not above SMALLEST of their mean: a score that may be negative has no ratios,
    and one value near 0 would outweigh all others.
    """
    a, b = _pair(after, before)
    return mean(a / b - 1) if b.mean() > 0 and (b > SMALLEST * b.mean()).all() else None


def growth_of_means(after: ArrayLike, before: ArrayLike) -> Interval | None:
    """Growth as the ratio of means: mean after / mean before - 1. None unless all before are above 0."""
    a, b = _pair(after, before)
    if not (b > 0).all():
        return None
    quotient = ratio(a.sum(axis=1), b.sum(axis=1))
    return resample(lambda counts: quotient(counts) - 1, len(a))


def outcomes(ours: ArrayLike, other: ArrayLike, band: float = 0.0) -> Outcomes:
    """How often ours is higher, about equal (no more than `band` apart, 0 or more) and lower."""
    a, b = _pair(ours, other)
    apart = a - b
    win, loss = float((apart > band).mean()), float((apart < -band).mean())
    return Outcomes(win, 1 - win - loss, loss)


def repair_rate(sound_before: ArrayLike, sound_after: ArrayLike) -> Interval | None:
    """Of the pictures flawed before, the share that is sound after; None if none was flawed."""
    before, after = _pair(sound_before, sound_after)
    return _share(after > 0, before <= 0)


def break_rate(sound_before: ArrayLike, sound_after: ArrayLike) -> Interval | None:
    """Of the pictures sound before, the share that is flawed after; None if none was sound."""
    before, after = _pair(sound_before, sound_after)
    return _share(after <= 0, before > 0)


def failures_ratio(sound_before: ArrayLike, sound_after: ArrayLike) -> Interval | None:
    """Flawed pictures after by flawed pictures before: one half where half of them are left. None if none was
    flawed before."""
    before, after = _pair(sound_before, sound_after)
    if not (before <= 0).any():
        return None
    return resample(ratio((after <= 0).sum(axis=1), (before <= 0).sum(axis=1)), len(before))


def p_value(ours: ArrayLike, other: ArrayLike, seed: int = 0) -> float:
    """Two-sided p of no difference, by flipping the sign of whole prompts at random (RESAMPLES times).

    A paired permutation test, clustered by prompt; never 0, as the observed signs count as one of the draws.
    """
    a, b = _pair(ours, other)
    sums = (a - b).sum(axis=1)
    seen = abs(sums.sum())
    rng = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // len(sums))
    as_far, left = 0, RESAMPLES
    while left:
        count = min(rows, left)
        signs = rng.integers(0, 2, size=(count, len(sums))) * 2 - 1
        # Equal sums differ in their last digits by the order of adding up.
        as_far += int((np.abs(signs @ sums) >= seen - 1e-9 * (1 + seen)).sum())
        left -= count
    return (1 + as_far) / (1 + RESAMPLES)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979) of p values, in their order: each may be read against 5 % alone."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    adjusted, worst = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[i]))
        adjusted[i] = worst
    return adjusted


def tie_band(first: ArrayLike, again: ArrayLike) -> float:
    """How far two scores of one and the same picture were apart at most: less is no difference."""
    a, b = np.asarray(first, float), np.asarray(again, float)
    return float(np.abs(a - b).max(initial=0.0))


def _share(of: NDArray[np.bool_], among: NDArray[np.bool_]) -> Interval | None:
    """Share of `of` among the pairs of `among`, by prompt."""
    if not among.any():
        return None
    return resample(ratio((of & among).sum(axis=1), among.sum(axis=1)), len(of))


def _grid(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, float)
    if x.ndim != 2 or not x.size or not np.isfinite(x).all():
        raise ValueError(
            f"values of shape {x.shape}: they must be finite, prompts by seeds, 1 or more of each"
        )
    return x


def _pair(ours: ArrayLike, other: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = _grid(ours), _grid(other)
    if a.shape != b.shape:
        raise ValueError(f"arms of shapes {a.shape} and {b.shape} are not paired")
    return a, b

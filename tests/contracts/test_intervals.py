"""Bootstrap intervals: as wide as theory says, the same every time, right for ratios."""

import numpy as np
import pytest

from contracts import intervals
from contracts.intervals import auc, bootstrap, ratio, resample


def test_width_is_that_of_the_normal_approximation():
    x = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = bootstrap(x)
    half = 1.96 * x.std() / np.sqrt(len(x))
    assert found.mean == pytest.approx(x.mean())
    assert found.low == pytest.approx(x.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(x.mean() + half, abs=0.1 * half)


def test_the_same_seed_gives_the_same_interval_however_the_draws_are_cut(monkeypatch):
    x = np.random.default_rng(1).random(50)
    found = bootstrap(x, seed=4)
    monkeypatch.setattr(intervals, "_NUMBERS_AT_ONCE", 50 * 37)
    again = bootstrap(x, seed=4)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-12)
    assert bootstrap(x, seed=5) != found


def test_a_ratio_weighs_units_by_what_is_below():
    found = resample(ratio([1, 9], [1, 10]), 2)
    assert found.mean == pytest.approx(10 / 11)
    assert (found.low, found.high) == pytest.approx((0.9, 1.0))


def test_draws_without_anything_below_are_left_out():
    found = resample(ratio([0, 1], [0, 1]), 2)
    assert (found.mean, found.low, found.high) == (1, 1, 1)
    assert np.isnan(resample(ratio([0], [0]), 1).low)


def test_a_single_unit_has_no_spread():
    assert bootstrap([0.25]) == intervals.Interval(0.25, 0.25, 0.25)


def test_of_nothing_there_is_no_figure():
    found = bootstrap([])
    assert np.isnan([found.mean, found.low, found.high]).all()


def test_area_under_the_curve_counts_pairs_and_its_interval_counts_units():
    scores, truth = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([False, False, True, True, True])
    pairs = [float(a > b) + 0.5 * (a == b) for a in scores[truth] for b in scores[~truth]]
    whole = resample(auc(scores, truth, np.arange(5)), 5)
    assert whole.mean == pytest.approx(np.mean(pairs)) and whole.low < whole.mean <= whole.high
    tied = resample(auc([0.9, 0.1, 0.2, 0.7], [True, False, True, False], [0, 0, 1, 1]), 2)
    assert tied.mean == pytest.approx(0.75) and {tied.low, tied.high} == {0.0, 1.0}

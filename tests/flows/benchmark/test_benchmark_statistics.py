"""The statistics on samples whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.benchmark import statistics as s


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_the_two_growths_differ_as_the_papers_do() -> None:
    before, after = column(1.0, 4.0), column(2.0, 4.4)
    assert s.mean_growth(after, before).mean == pytest.approx((1.0 + 0.1) / 2)
    assert s.growth_of_means(after, before).mean == pytest.approx(6.4 / 5 - 1)


def test_growth_is_not_given_of_scores_that_have_no_ratios() -> None:
    assert s.mean_growth(column(1, 1), column(-0.5, 1)) is None
    assert s.growth_of_means(column(1, 1), column(0, 1)) is None
    assert s.mean_growth(column(1, 1), column(1e-4, 1)) is None
    assert s.growth_of_means(column(1, 1), column(1e-4, 1)) is not None


def test_seeds_of_one_prompt_are_no_independent_units() -> None:
    rng = np.random.default_rng(0)
    by_prompt = rng.normal(size=(40, 1))
    clustered = s.mean(np.repeat(by_prompt, 25, axis=1))
    alone = s.mean(by_prompt)
    assert clustered.mean == pytest.approx(alone.mean)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(100):
        drawn = s.difference(rng.normal(0.3, 1, (60, 2)), np.zeros((60, 2)))
        covered += drawn.low <= 0.3 <= drawn.high
    assert 88 <= covered <= 99


def test_pairing_removes_what_both_arms_share() -> None:
    rng = np.random.default_rng(2)
    prompt = rng.normal(0, 10, (50, 1))
    ours, other = prompt + 0.5 + rng.normal(0, 0.1, (50, 1)), prompt
    assert s.difference(ours, other).low > 0.4
    assert s.p_value(ours, other) < 0.001


def test_p_is_uniform_enough_where_nothing_differs_and_never_zero() -> None:
    rng = np.random.default_rng(3)
    values = [s.p_value(rng.normal(size=(30, 1)), np.zeros((30, 1))) for _ in range(60)]
    assert 0.3 < np.mean(values) < 0.7
    assert s.p_value(np.ones((40, 1)), np.zeros((40, 1))) == pytest.approx(1 / 10_001)
    assert s.p_value(np.ones((5, 3)), np.ones((5, 3))) == 1.0


def test_p_of_few_prompts_is_the_exact_share_of_sign_flips() -> None:
    assert s.p_value(column(1, 1, 1), column(0, 0, 0)) == pytest.approx(2 / 8, abs=0.02)


def test_wins_ties_and_losses_by_the_band() -> None:
    ours, other = column(1.0, 1.0, 1.0, 1.0), column(0.8, 0.95, 1.05, 1.2)
    assert s.outcomes(ours, other, 0.1) == pytest.approx((0.25, 0.5, 0.25))
    assert s.outcomes(ours, other) == pytest.approx((0.5, 0.0, 0.5))


def test_repair_and_break_rates_have_their_own_denominators() -> None:
    before, after = column(0, 0, 0, 1, 1), column(1, 0, 0, 0, 1)
    assert s.repair_rate(before, after).mean == pytest.approx(1 / 3)
    assert s.break_rate(before, after).mean == pytest.approx(1 / 2)
    assert s.repair_rate(column(1, 1), column(1, 0)) is None
    assert s.break_rate(column(0, 0), column(1, 0)) is None


def test_holm_as_published() -> None:
    assert s.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert s.holm([0.6, 0.9]) == pytest.approx([1.0, 1.0])
    assert s.holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_and_keeps_the_order(values: list[float]) -> None:
    adjusted = s.holm(values)
    assert all(a >= v and a <= 1 for a, v in zip(adjusted, values, strict=True))
    order = np.argsort(values, kind="stable")
    assert all(adjusted[i] <= adjusted[j] for i, j in zip(order, order[1:], strict=False))


def test_the_tie_band_is_the_scorers_own_noise() -> None:
    assert s.tie_band([0.5, 0.7], [0.5, 0.69]) == pytest.approx(0.01)
    assert s.tie_band([], []) == 0.0


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 2)), np.array([[np.nan]])])
def test_what_is_no_sample_is_refused(values) -> None:
    with pytest.raises(ValueError, match="prompts by seeds"):
        s.mean(values)
    with pytest.raises(ValueError, match="not paired"):
        s.difference(np.zeros((2, 1)), np.zeros((3, 1)))

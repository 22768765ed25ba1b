"""From results to the figures of tables and curves: what each arm is worth, against which, at what cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from contracts.intervals import Interval
from flows.benchmark import statistics
from flows.benchmark.measuring import Measure
from flows.benchmark.results import Results
from flows.benchmark.statistics import Outcomes
from flows.benchmark.trails import WORK, Spent, Stand, Trail

FIRST, AGAIN = "one-shot", "best-of-n"
"""The arms that others are compared with: no effort at all, and the same effort without a controller."""
Budget: TypeAlias = Literal["calls", "same calls", "same seconds"]
BUDGETS: dict[Budget, str] = {
    "calls": "both with the whole budget of generator calls",
    "same calls": "the other with as many generator calls as this arm used for that very prompt",
    "same seconds": "the other with as many model seconds as this arm used for that very prompt",
}
POINTS = 9
"""Of a curve over seconds."""
At: TypeAlias = Callable[[int, int, Trail], Stand]
"""Which stand of a trail counts, by number of the prompt and of the seed."""


@dataclass(frozen=True)
class Cost:
    """What an arm took for one prompt and seed, on average."""

    calls: Interval
    seconds: Interval
    work: dict[str, float]
    """Mean number of calls of each kind."""
    tokens: Interval
    """Of the language model that writes prompts; 0 where rules write."""
    usd: Interval | None
    """US dollars for these tokens; None where they were taken at no known price."""


@dataclass(frozen=True)
class Comparison:
    """One measure of one arm against another's, on the same prompts and seeds."""

    arm: str
    other: str
    budget: Budget
    measure: Measure
    difference: Interval
    mean_growth: Interval | None
    """Mean over pairs of ours / other - 1; None where a score is not positive throughout."""
    growth_of_means: Interval | None
    outcomes: Outcomes
    p: float
    p_holm: float
    """Corrected over the independent measures of this comparison."""
    repaired: Interval | None = None
    """Yes-or-no measures only: of the other's noes, the share that is a yes here."""
    broken: Interval | None = None
    """Of the other's yeses, the share that is a no here."""
    failures: Interval | None = None
    """Noes here by noes of the other."""


class CurvePoint(NamedTuple):
    """A mean at a cost."""

    cost: float
    value: Interval


class Curves(NamedTuple):
    """What each arm is worth at a growing cost."""

    by_calls: dict[str, list[CurvePoint]]
    by_seconds: dict[str, list[CurvePoint]]


def final(results: Results) -> At:
    """The stand at the end of the budget."""
    return lambda _p, _k, trail: trail.within(results.budget)


def grid(results: Results, arm: str, measure: str, at: At) -> NDArray[np.float64]:
    """(P, K): a measure of the pictures that an arm would hand over."""
    return np.array(
        [
            [results.value(prompt, at(p, k, trail), measure) for k, trail in enumerate(row)]
            for p, (prompt, row) in enumerate(zip(results.prompts, results.trails[arm], strict=True))
        ]
    )


def means(results: Results, rows: Sequence[int] | None = None) -> dict[str, dict[str, Interval]]:
    """By arm and measure; `rows` are numbers of the prompts that count, all if None."""
    chosen = slice(None) if rows is None else list(rows)
    return {
        arm.name: {
            measure.name: statistics.mean(grid(results, arm.name, measure.name, final(results))[chosen])
            for measure in results.measures
        }
        for arm in results.ran
    }


def by_category(results: Results) -> dict[str, dict[str, dict[str, Interval]]]:
    """Means for each category of prompts, in the order in which they first appear."""
    rows: dict[str, list[int]] = {}
    for number, prompt in enumerate(results.prompts):
        if prompt.category:
            rows.setdefault(prompt.category, []).append(number)
    return {category: means(results, numbers) for category, numbers in rows.items()}


def costs(results: Results) -> dict[str, Cost]:
    """By arm, at the end of the budget."""
    found = {}
    for arm in results.ran:
        spent = [[trail.within(results.budget).spent for trail in row] for row in results.trails[arm.name]]
        found[arm.name] = Cost(
            statistics.mean([[s.calls for s in row] for row in spent]),
            statistics.mean([[s.seconds(results.seconds) for s in row] for row in spent]),
            {kind: float(np.mean([[getattr(s, kind) for s in row] for row in spent])) for kind in WORK},
            statistics.mean([[s.tokens for s in row] for row in spent]),
            _dollars(spent),
        )
    return found


def _dollars(spent: Sequence[Sequence[Spent]]) -> Interval | None:
    unpriced = any(s.tokens and not s.usd for row in spent for s in row)
    return None if unpriced else statistics.mean([[s.usd for s in row] for row in spent])


def comparisons(results: Results) -> list[Comparison]:
    """Every arm against the first picture and against drawing again, at equal budgets of three kinds."""
    names = [arm.name for arm in results.ran]
    found: list[Comparison] = []
    for other in (FIRST, AGAIN):
        for arm in names:
            if other not in names or arm == other or (arm == FIRST and other == AGAIN):
                continue
            found += compare(results, arm, other, "calls")
            if other == AGAIN:
                found += compare(results, arm, other, "same calls")
                found += compare(results, arm, other, "same seconds")
    return found


def compare(results: Results, arm: str, other: str, budget: Budget) -> list[Comparison]:
    """One arm against another in all measures."""
    theirs = _matched(results, arm, budget)
    pairs = [
        (
            measure,
            grid(results, arm, measure.name, final(results)),
            grid(results, other, measure.name, theirs),
        )
        for measure in results.measures
    ]
    values = [statistics.p_value(ours, others) for _, ours, others in pairs]
    return [
        Comparison(
            arm,
            other,
            budget,
            measure,
            statistics.difference(ours, others),
            None if measure.binary else statistics.mean_growth(ours, others),
            None if measure.binary else statistics.growth_of_means(ours, others),
            statistics.outcomes(ours, others, results.bands.get(measure.name, 0.0)),
            p,
            p_holm,
            statistics.repair_rate(others, ours) if measure.binary else None,
            statistics.break_rate(others, ours) if measure.binary else None,
            statistics.failures_ratio(others, ours) if measure.binary else None,
        )
        for (measure, ours, others), p, p_holm in zip(
            pairs, values, corrected(values, [measure for measure, *_ in pairs]), strict=True
        )
    ]


def outrun(results: Results, arm: str, other: str) -> float:
    """Share of pairs, 0..1, in which an arm took more model seconds than all steps of the other together: at
    the same seconds it is then compared with the last of them."""
    ours, theirs = (results.trails[name] for name in (arm, other))
    return float(
        np.mean(
            [
                _seconds(results, own.within(results.budget)) > _seconds(results, trail.end) * (1 + 1e-9)
                for row, others in zip(ours, theirs, strict=True)
                for own, trail in zip(row, others, strict=True)
            ]
        )
    )


def corrected(values: Sequence[float], measures: Sequence[Measure]) -> list[float]:
    """Holm's correction over the independent measures; the others are shown for information only and keep
    their own value."""
    family = [i for i, measure in enumerate(measures) if measure.independent]
    result = list(values)
    for i, value in zip(family, statistics.holm([values[i] for i in family]), strict=True):
        result[i] = value
    return result


def curves_of(results: Results, measure: str) -> Curves:
    """One measure of every arm that ran."""
    arms = [arm.name for arm in results.ran]
    return Curves(
        {arm: curve_by_calls(results, arm, measure) for arm in arms},
        {arm: curve_by_seconds(results, arm, measure) for arm in arms},
    )


def curve_by_calls(results: Results, arm: str, measure: str) -> list[CurvePoint]:
    """What an arm is worth after 1, 2, ... generator calls, up to the budget."""
    return [
        CurvePoint(
            float(calls),
            statistics.mean(grid(results, arm, measure, lambda _p, _k, t, n=calls: t.within(n))),  # type: ignore[misc]
        )
        for calls in range(1, results.budget + 1)
    ]


def curve_by_seconds(results: Results, arm: str, measure: str) -> list[CurvePoint]:
    """What an arm is worth by mean model seconds, up to what it took at most."""
    ends = [_seconds(results, trail.end) for row in results.trails[arm] for trail in row]
    begins = [_seconds(results, trail.stands[0]) for row in results.trails[arm] for trail in row]
    points = np.unique(np.linspace(min(begins), max(ends), POINTS).round(9))
    return [
        CurvePoint(
            float(limit),
            statistics.mean(
                grid(
                    results,
                    arm,
                    measure,
                    lambda _p, _k, t, s=limit: t.within_seconds(float(s), results.seconds),  # type: ignore[misc]
                )
            ),
        )
        for limit in points
    ]


def extremes(results: Results, arm: str, other: str, measure: str) -> Iterator[tuple[str, int, int]]:
    """Where an arm gains most over the other, in the middle, and where it loses most: the word for it, and
    the numbers of its prompt and seed."""
    at = final(results)
    gain = grid(results, arm, measure, at) - grid(results, other, measure, at)
    order = np.argsort(-gain, axis=None, kind="stable")
    for word, place in (("best", 0), ("median", len(order) // 2), ("worst", len(order) - 1)):
        p, k = np.unravel_index(order[place], gain.shape)
        yield word, int(p), int(k)


def _matched(results: Results, arm: str, budget: Budget) -> At:
    """The stand of another arm that is compared with the end of `arm`."""

    def ours(p: int, k: int) -> Stand:
        return results.trails[arm][p][k].within(results.budget)

    if budget == "same calls":
        return lambda p, k, trail: trail.within(ours(p, k).spent.calls)
    if budget == "same seconds":
        return lambda p, k, trail: trail.within_seconds(_seconds(results, ours(p, k)), results.seconds)
    return final(results)


def _seconds(results: Results, stand: Stand) -> float:
    return stand.spent.seconds(results.seconds)

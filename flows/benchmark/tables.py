"""The figures as tables of text: for the terminal, as Markdown for a paper, and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from contracts.intervals import Interval
from contracts.tables import Table
from flows.benchmark import figures
from flows.benchmark.figures import BUDGETS, Comparison
from flows.benchmark.measuring import ROLES, Measure
from flows.benchmark.results import Results
from flows.benchmark.statistics import Outcomes
from flows.benchmark.trails import WORK, Spent
from flows.terminal.wording import count

NONE = "–"
ENOUGH = 30
"""Prompts from which on a percentile bootstrap of a mean may be trusted."""
INTERVALS = "95 % intervals: 10,000 draws of whole prompts with all their seeds."


@dataclass(frozen=True)
class Titled:
    """A table with what has to be said above and below it."""

    title: str
    table: Table
    notes: tuple[str, ...] = ()
    aside: bool = False
    """Whether it is for those who check: a page may fold it away."""

    def markdown(self) -> str:
        """Title, table and notes."""
        return "\n\n".join([f"### {self.title}", self.table.markdown(), *self.notes])


@dataclass(frozen=True)
class Figures:
    """All figures of a benchmark, computed once."""

    results: Results
    means: dict[str, dict[str, Interval]]
    costs: dict[str, figures.Cost]
    comparisons: list[Comparison]
    categories: dict[str, dict[str, dict[str, Interval]]]
    curves: dict[str, figures.Curves]
    """Of every independent measure, by its name."""

    @classmethod
    def of(cls, results: Results) -> Figures:
        """Draw all intervals."""
        return cls(
            results,
            figures.means(results),
            figures.costs(results),
            figures.comparisons(results),
            figures.by_category(results),
            {m.name: figures.curves_of(results, m.name) for m in results.measures if m.independent},
        )


def all_tables(found: Figures) -> list[Titled]:
    """Every table, in the order of reading."""
    tables = [summary(found), *beside_the_paper(found.results), *versus(found)]
    if found.categories:
        tables += categories(found)
    tables += [*by_calls(found), cost_table(found)]
    if left := not_run(found.results):
        tables.append(left)
    return tables


def brief(found: Figures) -> list[Titled]:
    """What answers the question, narrow enough for a terminal: independent measures, whole budgets."""
    results = found.results
    measures = [measure for measure in results.measures if measure.independent]
    paid = writes_by_model(found)
    lines = [
        (
            arm_words(results, arm),
            f"{found.costs[arm].calls.mean:.2f}",
            f"{found.costs[arm].seconds.mean:.2f}",
            *(_money(found.costs[arm]) if paid else ()),
            *(value_words(values[measure.name], measure) for measure in measures),
        )
        for arm, values in found.means.items()
    ]
    money = ("tokens", "US dollars") if paid else ()
    head = ("arm", "calls", "seconds", *money, *(measure.name for measure in measures))
    tables = [Titled("Final pictures", Table(head, tuple(lines)))]
    for other in (figures.FIRST, figures.AGAIN):
        rows = [
            c for c in found.comparisons if c.other == other and c.budget == "calls" and c.measure.independent
        ]
        if rows:
            lines = [
                (
                    arm_words(results, row.arm),
                    row.measure.name,
                    value_words(row.difference, row.measure, difference=True),
                    outcome_words(row.outcomes),
                    p_words(row.p_holm),
                )
                for row in rows
            ]
            head = ("arm", "measure", "difference", "win / tie / loss", "p, Holm")
            tables.append(Titled(f"Against {other}", Table(head, tuple(lines))))
    tables += beside_the_paper(results)
    left = not_run(results)
    return tables if left is None else [*tables, left]


def _money(cost: figures.Cost) -> tuple[str, str]:
    return f"{cost.tokens.mean:.0f}", NONE if cost.usd is None else f"{cost.usd.mean:.4f}"


def caution(results: Results) -> str:
    """What a reader of few prompts has to know; nothing to say from ENOUGH on."""
    prompts = len(results.prompts)
    if prompts >= ENOUGH:
        return ""
    verb = "is" if prompts == 1 else "are"
    return (
        f"{count(prompts, 'prompt')} {verb} too few for a claim: intervals of fewer than {ENOUGH} are "
        "narrower than they should be, and one from 0 to 0 only says that nothing happened to differ."
    )


def markdown(found: Figures) -> str:
    """All tables as one Markdown page."""
    parts = [f"## {title(found.results)}", *(table.markdown() for table in all_tables(found)), *notes(found)]
    return "\n\n".join(parts) + "\n"


def title(results: Results) -> str:
    """How much of what was measured."""
    facts = results.facts
    seeds = f", {facts['seeds']} seeds each" if facts["seeds"] > 1 else ""
    return (
        f"{count(len(results.prompts), 'prompt')} of {facts['source']}{seeds}, profile {facts['profile']}, "
        f"{count(facts['budget'], 'generator call')}"
    )


def summary(found: Figures) -> Titled:
    """Each arm's means."""
    measures = found.results.measures
    lines = [
        (
            arm_words(found.results, arm),
            f"{found.costs[arm].calls.mean:.2f}",
            f"{found.costs[arm].seconds.mean:.2f}",
            *(value_words(values[measure.name], measure) for measure in measures),
        )
        for arm, values in found.means.items()
    ]
    head = ("arm", "generator calls", "model seconds", *(measure.name for measure in measures))
    said = [f"{measure.name}: {measure.about} ({ROLES[measure.role]})." for measure in measures]
    return Titled("Final pictures", Table(head, tuple(lines)), (INTERVALS, *said))


def versus(found: Figures) -> Iterator[Titled]:
    """A table for each arm that others are compared with, and each kind of equal budget."""
    for other in (figures.FIRST, figures.AGAIN):
        for budget, said in BUDGETS.items():
            rows = [c for c in found.comparisons if c.other == other and c.budget == budget]
            if rows:
                head = f"Against {other}" + ("" if budget == "calls" else f", {budget}")
                notes = (f"Budget: {said}.{_outrun(found.results, rows)}", *_explained(found.results, rows))
                yield Titled(head, _versus(found.results, rows), notes, aside=budget != "calls")


def beside_the_paper(results: Results) -> list[Titled]:
    """The paper's own table, if this was its experiment."""
    from flows.benchmark import paper

    return [paper.paper_table(results)] if results.facts.get("preset") == paper.NAME else []


def categories(found: Figures) -> Iterator[Titled]:
    """Each independent measure by category of prompts."""
    for measure in found.results.measures:
        if measure.independent:
            lines = tuple(
                (
                    arm_words(found.results, arm),
                    *(value_words(found.categories[c][arm][measure.name], measure) for c in found.categories),
                )
                for arm in found.means
            )
            yield Titled(f"By category: {measure.name}", Table(("arm", *found.categories), lines))


def by_calls(found: Figures) -> Iterator[Titled]:
    """The curves against cost as numbers: what each arm would hand over after so many generator calls."""
    results = found.results
    for measure in results.measures:
        if not measure.independent or results.budget == 1:
            continue
        lines = [
            (arm_words(results, arm), *(value_words(point.value, measure) for point in curve))
            for arm, curve in found.curves[measure.name].by_calls.items()
        ]
        head = ("arm", *(f"{calls}" for calls in range(1, results.budget + 1)))
        said = f"{measure.name} after each generator call"
        yield Titled(said, Table(head, tuple(lines)), aside=True)


def cost_table(found: Figures) -> Titled:
    """What each arm takes for one prompt, and what one call takes."""
    seconds = found.results.seconds
    kinds = [kind for kind in WORK if any(cost.work[kind] for cost in found.costs.values())]
    lines = [
        (
            arm_words(found.results, arm),
            *(f"{cost.work[kind]:.2f}" for kind in kinds),
            _plain(cost.calls, 2),
            _plain(cost.seconds, 2),
            _plain(cost.tokens, 0),
            dollar_words(cost.usd),
        )
        for arm, cost in found.costs.items()
    ]
    priced = ("seconds of one", *(f"{seconds.get(kind, 0.0):.3f}" for kind in kinds), *[""] * 4)
    head = ("calls for one prompt", *kinds, "generator calls", "model seconds", "tokens", "US dollars")
    note = (
        "A picture that several arms share was painted once and is charged to each. Model seconds are calls "
        "times the mean seconds of one such call in this benchmark."
    )
    return Titled("Costs", Table(head, (*lines, priced)), (note, _money_note(found)))


def _money_note(found: Figures) -> str:
    """What tokens and dollars are of, and how much all arms took together."""
    said = "Tokens and US dollars are of the language model that writes prompts, and of nothing else"
    if not writes_by_model(found):
        return f"{said}; here rules write."
    ends = [trail.end.spent for rows in found.results.trails.values() for row in rows for trail in row]
    spent = sum(ends, Spent())
    known = any(cost.usd is not None and cost.usd.mean for cost in found.costs.values())
    dollars = f", ${spent.usd:.2f}" if known else f"; {NONE} where no price is known"
    return (
        f"{said}; all arms together, with what they did beyond the budget: {spent.tokens:,} tokens{dollars}."
    )


def writes_by_model(found: Figures) -> bool:
    """Whether a language model wrote any prompt."""
    return any(cost.tokens.mean for cost in found.costs.values())


def not_run(results: Results) -> Titled | None:
    """Arms that could not be run and measures that could not be taken, with reasons; None if all were."""
    lines = [(arm.name, "arm", arm.problem) for arm in results.arms if arm.problem is not None]
    lines += [(name, "measure", reason) for name, reason in results.not_measured.items()]
    return Titled("Not run", Table(("what", "kind", "why"), tuple(lines))) if lines else None


def notes(found: Figures) -> list[str]:
    """What a reader of any table has to know."""
    results = found.results
    said = [f"{arm.name}: {arm.about}." for arm in results.ran]
    facts = results.facts
    few = caution(results)
    return [
        *([few] if few else []),
        " ".join(said),
        f"Seed {facts['seed']}; {', '.join(f'{k} {v}' for k, v in facts.get('versions', {}).items())}.",
    ]


def _versus(results: Results, rows: Sequence[Comparison]) -> Table:
    head = (
        "arm",
        "measure",
        "difference",
        "p, Holm",
        "win / tie / loss",
        "growth, mean of ratios",
        "growth, ratio of means",
        "repaired",
        "broken",
        "noes by noes",
        "p",
    )
    return Table(head, tuple(_versus_line(results, row) for row in rows))


def _versus_line(results: Results, row: Comparison) -> tuple[str, ...]:
    return (
        arm_words(results, row.arm),
        row.measure.name,
        value_words(row.difference, row.measure, difference=True),
        p_words(row.p_holm) if row.measure.independent else NONE,
        outcome_words(row.outcomes),
        growth_words(row.mean_growth),
        growth_words(row.growth_of_means),
        NONE if row.repaired is None else row.repaired.percent(),
        NONE if row.broken is None else row.broken.percent(),
        NONE if row.failures is None else _plain(row.failures, 2),
        p_words(row.p),
    )


def _outrun(results: Results, rows: Sequence[Comparison]) -> str:
    """Where more seconds were there than the other could use; nothing where there were not."""
    if rows[0].budget != "same seconds":
        return ""
    shares = {row.arm: figures.outrun(results, row.arm, row.other) for row in rows}
    told = [f"{arm} in {100 * share:.0f} % of the pairs" for arm, share in shares.items() if share]
    if not told:
        return ""
    return (
        f" The last draw of {rows[0].other} stands for any longer time: {', '.join(told)} took longer than "
        "all its draws together."
    )


def _explained(results: Results, rows: Sequence[Comparison]) -> tuple[str, ...]:
    bands = dict.fromkeys(
        f"{row.measure.name} {results.bands.get(row.measure.name, 0.0):.1g}" for row in rows
    )
    said = (
        f"A tie is a difference of no more than the scorer's own noise: {', '.join(bands)}. "
        "p: two-sided sign-flip test by prompt, 10,000 flips; Holm: over the independent measures."
    )
    if any(row.measure.binary for row in rows):
        said += (
            " Repaired: of the other's noes, yes here; broken: of its yeses, no here. Noes by noes: how many "
            "there are here for each of its own."
        )
    return (said,)


def arm_words(results: Results, arm: str) -> str:
    """An arm's name, marked if it is no fair competitor."""
    fair = next(one.fair for one in results.arms if one.name == arm)
    return arm if fair else f"{arm} (a bound)"


def value_words(value: Interval, measure: Measure, difference: bool = False) -> str:
    """A mean of a measure, or a difference of two, with its interval."""
    if measure.binary:
        return value.points() if difference else value.percent()
    return _plain(value, 4, sign="+" if difference else "")


def mean_words(value: Interval, measure: Measure) -> str:
    """A mean alone."""
    return f"{100 * value.mean:.1f} %" if measure.binary else f"{value.mean:.4f}"


def dollar_words(value: Interval | None) -> str:
    """A sum of money; a dash where no price is known."""
    return NONE if value is None else _plain(value, 4)


def growth_words(value: Interval | None) -> str:
    """A growth in percent; a dash where a measure has none."""
    if value is None:
        return NONE
    return f"{100 * value.mean:+.2f} % [{100 * value.low:+.2f}, {100 * value.high:+.2f}]"


def outcome_words(outcomes: Outcomes) -> str:
    """Shares of wins, ties and losses."""
    win, tie, loss = (f"{100 * share:.0f}" for share in outcomes)
    return f"{win} / {tie} / {loss} %"


def p_words(value: float) -> str:
    """A p value, not more exact than it was drawn."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _plain(value: Interval, digits: int, sign: str = "") -> str:
    form = f"{sign}.{digits}f"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"

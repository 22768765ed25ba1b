"""Two stored benchmarks side by side: what changed from the first to the second, prompt by prompt.

Only what both have is compared: arms and measures of the same name, prompts of the same words. Where both
drew with the same seed a pair is a prompt and a seed; otherwise it is a prompt, and its repeats are taken in
order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from contracts.errors import InvalidInput
from contracts.intervals import Interval
from contracts.tables import Table
from flows.benchmark import figures, statistics
from flows.benchmark.figures import final, grid
from flows.benchmark.measuring import Measure
from flows.benchmark.results import Results
from flows.benchmark.statistics import Outcomes
from flows.benchmark.tables import (
    NONE,
    Titled,
    growth_words,
    mean_words,
    outcome_words,
    p_words,
    value_words,
)
from flows.terminal.wording import count

MODEL = "model: "
IRRELEVANT = ("source",)
"""Facts that may differ although the same was measured: the words of the prompts decide, not their file."""


@dataclass(frozen=True)
class Change:
    """One measure of one arm in two benchmarks."""

    arm: str
    measure: Measure
    first: Interval
    second: Interval
    difference: Interval
    """Second less first, pair by pair."""
    mean_growth: Interval | None
    growth_of_means: Interval | None
    outcomes: Outcomes
    """Of the second."""
    lead: Interval | None
    """How much more the arm is ahead of drawing again in the second; None for that arm itself, or where one
    of the two did not draw again."""
    p: float
    p_holm: float
    """Corrected over the independent measures of this arm."""


@dataclass(frozen=True)
class Compared:
    """All that is to be said of two benchmarks."""

    first: Results
    second: Results
    """Both cut down to the prompts and repeats they share."""
    changes: tuple[Change, ...]
    same_seeds: bool
    facts: Mapping[str, tuple[Any, Any]]
    """Settings, versions and models in which they differ."""
    left_out: Mapping[str, str]
    """Arms and measures that are not compared, with the reason."""


def compare(first: Results, second: Results) -> Compared:
    """Everything both have. Raises InvalidInput if they share no prompt, no arm or no measure."""
    ours, theirs = shared(first, second)
    arms = [arm.name for arm in ours.ran if arm.name in {other.name for other in theirs.ran}]
    facts = _differences(first, second)
    measures = [m for m in ours.measures if m in theirs.measures and MODEL + _taken_by(m) not in facts]
    for what, kept in (("arm", arms), ("measure that the same scorer took", measures)):
        if not kept:
            raise InvalidInput(f"the two benchmarks share no {what}: there is nothing to compare")
    same_seeds = first.facts["seed"] == second.facts["seed"]
    changes = [change for arm in arms for change in _of_arm(ours, theirs, arm, measures)]
    left_out = _left_out(ours, theirs, arms, measures, facts)
    return Compared(ours, theirs, tuple(changes), same_seeds, facts, left_out)


def shared(first: Results, second: Results) -> tuple[Results, Results]:
    """Both with the prompts of the same words, in the first's order, and equally many repeats of each."""
    texts = {prompt.text: number for number, prompt in enumerate(second.prompts)}
    pairs = [(n, texts[prompt.text]) for n, prompt in enumerate(first.prompts) if prompt.text in texts]
    if not pairs:
        raise InvalidInput("the two benchmarks share no prompt: there is nothing to compare")
    repeats = min(int(results.facts["seeds"]) for results in (first, second))
    return _cut(first, [a for a, _ in pairs], repeats), _cut(second, [b for _, b in pairs], repeats)


def tables(compared: Compared) -> list[Titled]:
    """What changed, what differs in how it was measured, and what could not be compared."""
    found = [_change_table(compared)]
    if compared.facts:
        rows = tuple((name, str(a), str(b)) for name, (a, b) in compared.facts.items())
        found.append(Titled("Measured differently", Table(("what", "first", "second"), rows)))
    if compared.left_out:
        found.append(Titled("Not compared", Table(("what", "why"), tuple(compared.left_out.items()))))
    return found


def brief(compared: Compared) -> list[Titled]:
    """The same, narrow enough for a terminal: independent measures and no growth."""
    head = ("arm", "measure", "first", "second", "difference", "p, Holm")
    rows = tuple(
        (
            change.arm,
            change.measure.name,
            mean_words(change.first, change.measure),
            mean_words(change.second, change.measure),
            value_words(change.difference, change.measure, difference=True),
            p_words(change.p_holm),
        )
        for change in compared.changes
        if change.measure.independent
    )
    return [Titled("From the first to the second", Table(head, rows)), *tables(compared)[1:]]


def title(compared: Compared) -> str:
    """How much of what was compared."""
    seeds = compared.first.facts["seeds"]
    paired = "prompts and seeds" if compared.same_seeds else "prompts; the seeds differ"
    each = f", {seeds} repeats each" if seeds > 1 else ""
    return f"{count(len(compared.first.prompts), 'prompt')} in both{each}, paired on {paired}"


def markdown(compared: Compared, first: str, second: str) -> str:
    """The tables as one page; `first` and `second` are what the reader calls the two."""
    head = [f"## {title(compared)}", f"First: `{first}`. Second: `{second}`."]
    return "\n\n".join([*head, *(table.markdown() for table in tables(compared))]) + "\n"


def to_json(compared: Compared) -> dict[str, Any]:
    """Every figure as plain values."""
    return {
        "prompts": len(compared.first.prompts),
        "seeds": compared.first.facts["seeds"],
        "same_seeds": compared.same_seeds,
        "changes": [asdict(change) for change in compared.changes],
        "facts": {name: list(pair) for name, pair in compared.facts.items()},
        "left_out": dict(compared.left_out),
    }


def _of_arm(first: Results, second: Results, arm: str, measures: Sequence[Measure]) -> Iterator[Change]:
    pairs = [
        (grid(first, arm, m.name, final(first)), grid(second, arm, m.name, final(second))) for m in measures
    ]
    values = [statistics.p_value(after, before) for before, after in pairs]
    corrected = figures.corrected(values, measures)
    for measure, (before, after), p, p_holm in zip(measures, pairs, values, corrected, strict=True):
        band = max(results.bands.get(measure.name, 0.0) for results in (first, second))
        yield Change(
            arm,
            measure,
            statistics.mean(before),
            statistics.mean(after),
            statistics.difference(after, before),
            None if measure.binary else statistics.mean_growth(after, before),
            None if measure.binary else statistics.growth_of_means(after, before),
            statistics.outcomes(after, before, band),
            _lead(first, second, arm, measure.name),
            p,
            p_holm,
        )


def _lead(first: Results, second: Results, arm: str, measure: str) -> Interval | None:
    again = figures.AGAIN
    if arm == again or any(again not in results.trails for results in (first, second)):
        return None
    ahead = [
        grid(results, arm, measure, final(results)) - grid(results, again, measure, final(results))
        for results in (first, second)
    ]
    return statistics.difference(ahead[1], ahead[0])


def _cut(results: Results, rows: Sequence[int], repeats: int) -> Results:
    return replace(
        results,
        facts={**results.facts, "seeds": repeats},
        prompts=tuple(results.prompts[row] for row in rows),
        trails={arm: tuple(trails[row][:repeats] for row in rows) for arm, trails in results.trails.items()},
    )


def _differences(first: Results, second: Results) -> dict[str, tuple[Any, Any]]:
    """Facts that are not the same, those of models and versions one by one."""
    ours, theirs = _flat(first), _flat(second)
    names = [name for name in dict.fromkeys([*ours, *theirs]) if name not in IRRELEVANT]
    return {
        name: (ours.get(name, NONE), theirs.get(name, NONE))
        for name in names
        if ours.get(name) != theirs.get(name)
    }


def _flat(results: Results) -> dict[str, Any]:
    facts = dict(results.facts)
    models, versions = facts.pop("models", {}), facts.pop("versions", {})
    return {**facts, **{MODEL + name: said for name, said in models.items()}, **versions}


def _taken_by(measure: Measure) -> str:
    """The name under which the facts keep who took a measure."""
    return f"measure {measure.name}"


def _left_out(
    first: Results,
    second: Results,
    arms: Sequence[str],
    measures: Sequence[Measure],
    facts: Mapping[str, Any],
) -> dict[str, str]:
    names = [arm.name for results in (first, second) for arm in results.ran]
    left = {name: "an arm of one of the two only" for name in names if name not in arms}
    for measure in (m for results in (first, second) for m in results.measures if m not in measures):
        other = MODEL + _taken_by(measure) in facts
        both = all(measure in results.measures for results in (first, second))
        left[measure.name] = (
            "another scorer took it in the second" if other and both else "a measure of one of the two only"
        )
    return left


def _change_table(compared: Compared) -> Titled:
    head = (
        "arm",
        "measure",
        "first",
        "second",
        "difference",
        "p, Holm",
        "win / tie / loss",
        "growth, mean of ratios",
        "growth, ratio of means",
        "lead over best-of-n",
        "p",
    )
    rows = tuple(
        (
            change.arm,
            change.measure.name,
            value_words(change.first, change.measure),
            value_words(change.second, change.measure),
            value_words(change.difference, change.measure, difference=True),
            p_words(change.p_holm) if change.measure.independent else NONE,
            outcome_words(change.outcomes),
            growth_words(change.mean_growth),
            growth_words(change.growth_of_means),
            NONE if change.lead is None else value_words(change.lead, change.measure, difference=True),
            p_words(change.p),
        )
        for change in compared.changes
    )
    note = (
        "Difference: second less first, 95 % intervals from 10,000 draws of whole prompts. Lead: by how much "
        "more the arm is ahead of drawing again in the second. p: two-sided sign-flip test by prompt; Holm: "
        "over the independent measures of an arm."
    )
    return Titled("From the first to the second", Table(head, rows), (note,))


def verdict(compared: Compared) -> str:
    """What became of regeneration, or of the last arm there is, by the first independent measure."""
    rows = [change for change in compared.changes if change.measure.independent] or list(compared.changes)
    names = [change.arm for change in rows]
    arm = "regeneration" if "regeneration" in names else names[-1]
    row = next(change for change in rows if change.arm == arm)
    said = "cannot be told from what it was"
    if row.difference.low > 0:
        said = "does better"
    elif row.difference.high < 0:
        said = "does worse"
    amount = value_words(row.difference, row.measure, difference=True)
    return f"{arm.capitalize()} {said} in the second: {row.measure.about}, {amount}."

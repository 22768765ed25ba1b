"""Runs at a glance: filtered, sorted and summed up by the database, without reading what is in them.

Every filter and every order has an index, as has each order of one kind and of finished and of open runs
(migration 0006), so that a listing of fifty costs the same however many runs there are. What a search or a
moment lets through is sorted by other orders than time in the size of what it lets through.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import ColumnElement, Select, column, func, literal_column, select, table
from sqlalchemy.orm import Session

from contracts.errors import InvalidInput
from contracts.records import RunStatus
from memory_bank.costs import AT_ONCE, spent_by_run
from memory_bank.rows import live_runs
from memory_bank.settings import KINDS
from memory_bank.tables import FindingRow, RoundRow, RunRow, StepRow, VerdictRow

Order: TypeAlias = Literal["newest", "oldest", "rounds", "prompt"]
ORDERS: tuple[Order, ...] = get_args(Order)
SHORTEST_WORD = 3
"""Characters that a search index works with. For a shorter text, runs are read in order up to the limit."""
# Written out and not passed as values: an index over part of a table, or over an expression, is used only for
# the same words.
_STATUS = {"finished": "runs.status = 'finished'", "interrupted": "runs.status <> 'finished'"}
_BY_PROMPT: ColumnElement[str] = literal_column("lower(substr(runs.prompt, 1, 200))")
_WORDS = table("run_words", column("rowid"), column("run_words"))


@dataclass(frozen=True)
class RunSummary:
    """One run without its rounds."""

    run_id: str
    kind: str
    prompt: str
    seed: int
    status: RunStatus
    created: str
    """UTC, ISO 8601."""
    rounds: int
    best: int | None
    """Number of the last accepted round."""
    seconds: float
    """Model time of all steps."""
    calls: int | None
    """Model calls. None, and so below, where none are kept: before schema 0007 only those of language models
    were."""
    tokens: int | None
    """In and out, of language models."""
    usd: float | None
    """US dollars; 0 where no price is known."""
    found: tuple[str, ...] = ()
    """Of a run without a prompt, what was found in its first picture: phrases, the surest first."""


@dataclass(frozen=True)
class RunFilter:
    """Which runs, and in which order. Raises InvalidInput for what nobody could mean."""

    kind: str | None = None
    status: RunStatus | None = None
    text: str = ""
    """Part of the prompt or of the id, in any case."""
    since: str = ""
    """Begun at this moment or later: UTC, ISO 8601, or the beginning of it, as 2026-11-21. The newest and
    oldest are then told apart by the clocks, too."""
    order: Order = "newest"
    limit: int = 50

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise InvalidInput(f"kind {self.kind!r} is unknown: choose one of {', '.join(KINDS)}")
        if self.status is not None and self.status not in get_args(RunStatus):
            raise InvalidInput(f"status {self.status!r} is unknown: choose from {get_args(RunStatus)}")
        if self.limit < 0:
            raise InvalidInput(f"limit {self.limit} cannot be used: choose 0 or more")


def summaries(session: Session, wanted: RunFilter) -> list[RunSummary]:
    """The runs that the filter lets through, at most `limit` of them."""
    live = {run.pk for run in live_runs(session)}
    chosen = _chosen(wanted, live, session.get_bind().dialect.name == "sqlite").subquery()
    columns: dict[str, Any] = {
        "run_id": RunRow.run_id,
        "kind": RunRow.kind,
        "prompt": RunRow.prompt,
        "seed": RunRow.seed,
        "status": RunRow.status,
        "created": RunRow.created,
        "rounds": RunRow.round_count,
        "best": _best(),
        "seconds": func.coalesce(_seconds(), 0.0),
    }
    statement = (
        select(RunRow.id, *columns.values())
        .join(chosen, chosen.c.id == RunRow.id)
        .order_by(*_ordering(wanted))
    )
    rows = {pk: dict(zip(columns, row, strict=True)) for pk, *row in session.execute(statement)}
    spent = spent_by_run(session, list(rows))
    found = _found(session, [pk for pk, values in rows.items() if not values["prompt"]])
    for pk, values in rows.items():
        values |= {"status": _status(values["status"], pk in live), "found": tuple(found.get(pk, ()))}
    return [RunSummary(**values, **spent[pk]._asdict()) for pk, values in rows.items()]


def _chosen(wanted: RunFilter, live: set[int], sqlite: bool) -> Select[Any]:
    """Ids only: what is summed up is summed up for these alone."""
    statement = select(RunRow.id).order_by(*_ordering(wanted)).limit(wanted.limit)
    # A plus keeps SQLite from using the index of a filter beside a search: it would look each run up in the
    # words, where the words already say which runs.
    plus = "+" if sqlite and len(wanted.text) >= SHORTEST_WORD else ""
    if wanted.kind:
        statement = statement.where(literal_column(f"{plus}runs.kind") == wanted.kind)
    if wanted.status == "running":
        statement = statement.where(RunRow.id.in_(live))
    elif wanted.status:
        statement = statement.where(literal_column(plus + _STATUS[wanted.status]))
    if wanted.status == "interrupted":
        statement = statement.where(RunRow.id.not_in(live))
    if wanted.since:
        statement = statement.where(RunRow.created >= wanted.since)
    if not wanted.text:
        return statement
    return (_with_words_sqlite if sqlite else _with_words_server)(statement, wanted)


def _with_words_sqlite(statement: Select[Any], wanted: RunFilter) -> Select[Any]:
    if len(wanted.text) < SHORTEST_WORD:
        return statement.where(_holds(wanted.text))
    phrase = '"' + wanted.text.replace('"', '""') + '"'
    found = statement.join(_WORDS, _WORDS.c.rowid == RunRow.id).where(_WORDS.c.run_words.match(phrase))
    if wanted.since or wanted.order not in ("newest", "oldest"):
        return found
    place = _WORDS.c.rowid  # in whose order the index itself can be read
    return found.order_by(None).order_by(place.desc() if wanted.order == "newest" else place.asc())


def _with_words_server(statement: Select[Any], wanted: RunFilter) -> Select[Any]:
    statement = statement.where(_holds(wanted.text))
    if len(wanted.text) < SHORTEST_WORD:
        return statement
    words: ColumnElement[Any] = literal_column("legion_trigrams(runs.prompt || chr(10) || runs.run_id)")
    return statement.where(words.bool_op("@>")(func.legion_trigrams(wanted.text)))


def _holds(part: str) -> ColumnElement[bool]:
    return RunRow.prompt.icontains(part, autoescape=True) | RunRow.run_id.icontains(part, autoescape=True)


def _ordering(wanted: RunFilter) -> tuple[ColumnElement[Any], ...]:
    """Ids grow with every run, so they order runs in time whatever the clocks said."""
    match wanted.order:
        case "newest":
            return (RunRow.created.desc(), RunRow.id.desc()) if wanted.since else (RunRow.id.desc(),)
        case "oldest":
            return (RunRow.created.asc(), RunRow.id.asc()) if wanted.since else (RunRow.id.asc(),)
        case "rounds":
            return (RunRow.round_count.desc(), RunRow.id.desc())
        case "prompt":
            return (_BY_PROMPT.asc(), RunRow.id.desc())


def _best() -> Any:
    return (
        select(func.max(RoundRow.round_index))
        .join(VerdictRow, VerdictRow.round_pk == RoundRow.id)
        .where(RoundRow.run_pk == RunRow.id, VerdictRow.accepted)
        .correlate(RunRow)
        .scalar_subquery()
    )


def _seconds() -> Any:
    return (
        select(func.sum(StepRow.seconds))
        .where(StepRow.run_pk == RunRow.id)
        .correlate(RunRow)
        .scalar_subquery()
    )


def _found(session: Session, runs: Sequence[int]) -> dict[int, list[str]]:
    """The phrases of each run's first picture. Masks are not read: in a bucket each is a question."""
    phrases: dict[int, list[str]] = {}
    for start in range(0, len(runs), AT_ONCE):
        rows = session.execute(
            select(RoundRow.run_pk, FindingRow.phrase)
            .join(FindingRow, FindingRow.round_pk == RoundRow.id)
            .where(RoundRow.run_pk.in_(runs[start : start + AT_ONCE]), RoundRow.round_index == 1)
            .order_by(FindingRow.confidence.desc(), FindingRow.ordinal)
        )
        for pk, phrase in rows:
            phrases.setdefault(pk, []).append(phrase)
    return phrases


def _status(stored: str, live: bool) -> RunStatus:
    if stored == "running":
        return "running" if live else "interrupted"
    return stored  # type: ignore[return-value]  # checked when it was set

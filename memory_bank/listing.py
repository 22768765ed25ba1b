"""Runs at a glance: filtered, sorted and summed up by the database, without reading what is in them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.orm import Session

from contracts.errors import InvalidInput
from contracts.records import RunStatus
from memory_bank.lease import is_live
from memory_bank.settings import KINDS
from memory_bank.tables import RoundRow, RunRow, StepRow, VerdictRow

Order: TypeAlias = Literal["newest", "oldest", "rounds", "prompt"]
ORDERS: tuple[Order, ...] = get_args(Order)


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


@dataclass(frozen=True)
class RunFilter:
    """Which runs, and in which order. Raises InvalidInput for what nobody could mean."""

    kind: str | None = None
    status: RunStatus | None = None
    text: str = ""
    """Part of the prompt or of the id, in any case."""
    since: str = ""
    """Begun at this moment or later: UTC, ISO 8601, or the beginning of it, as 2026-11-21."""
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
    live = _live(session)
    chosen = _chosen(wanted, live).subquery()
    statement = (
        select(
            RunRow.id,
            RunRow.run_id,
            RunRow.kind,
            RunRow.prompt,
            RunRow.seed,
            RunRow.status,
            RunRow.created,
            _rounds(),
            _best(),
            _seconds(),
        )
        .join(chosen, chosen.c.id == RunRow.id)
        .order_by(*_ordering(wanted.order))
    )
    return [
        RunSummary(
            run_id, kind, prompt, seed, _status(status, pk in live), created, rounds, best, seconds or 0.0
        )
        for pk, run_id, kind, prompt, seed, status, created, rounds, best, seconds in session.execute(
            statement
        )
    ]


def _chosen(wanted: RunFilter, live: set[int]) -> Select[Any]:
    """Ids only: what is summed up is summed up for these alone."""
    statement = select(RunRow.id).order_by(*_ordering(wanted.order)).limit(wanted.limit)
    if wanted.kind:
        statement = statement.where(RunRow.kind == wanted.kind)
    if wanted.status == "finished":
        statement = statement.where(RunRow.status == "finished")
    elif wanted.status == "running":
        statement = statement.where(RunRow.id.in_(live))
    elif wanted.status == "interrupted":
        statement = statement.where(RunRow.status != "finished", RunRow.id.not_in(live))
    if wanted.text:
        statement = statement.where(
            RunRow.prompt.icontains(wanted.text, autoescape=True)
            | RunRow.run_id.icontains(wanted.text, autoescape=True)
        )
    if wanted.since:
        statement = statement.where(RunRow.created >= wanted.since)
    return statement


def _ordering(order: Order) -> tuple[ColumnElement[Any], ...]:
    """Ids grow with every run, so they order runs in time whatever the clocks said."""
    match order:
        case "newest":
            return (RunRow.id.desc(),)
        case "oldest":
            return (RunRow.id.asc(),)
        case "rounds":
            return (_rounds().desc(), RunRow.id.desc())
        case "prompt":
            return (func.lower(RunRow.prompt).asc(), RunRow.id.desc())


def _rounds() -> Any:
    return select(func.count()).where(RoundRow.run_pk == RunRow.id).correlate(RunRow).scalar_subquery()


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


def _live(session: Session) -> set[int]:
    """Runs that a living process holds."""
    held = select(RunRow.id, RunRow.lease_holder, RunRow.lease_expiry).where(RunRow.lease_holder.is_not(None))
    now = time.time()
    return {pk for pk, holder, expiry in session.execute(held) if is_live(holder, expiry, now)}


def _status(stored: str, live: bool) -> RunStatus:
    if stored == "running":
        return "running" if live else "interrupted"
    return stored  # type: ignore[return-value]  # checked when it was set

"""What models did for a run: every call by its step, and what all calls of a model came to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from sqlalchemy import ColumnElement, Table, case, func, insert, select
from sqlalchemy.orm import Session

from contracts.records import ModelCall, Usage
from memory_bank.rows import finite
from memory_bank.tables import ModelCallRow, RunRow, StepRow

WEIGHTS = ("digest", "checkpoint", "weights")
"""Where a tool's description of itself has the digest of its weights."""

AT_ONCE = 500
"""Runs that are asked about in one statement."""
_CALLS = cast(Table, ModelCallRow.__table__)

REQUESTS: ColumnElement[int] = case((ModelCallRow.requests > 1, ModelCallRow.requests), else_=1)
"""Calls that a row stands for: a language model may have been asked again for one answer."""


@dataclass(frozen=True)
class KeptCall:
    """One model call as it is kept: one sample's share of it."""

    round: int
    step: str
    region: int
    candidate: int
    """Both from 1; 0 for steps of a whole round or region."""
    part: str
    model: str
    digest: str | None
    """Of the weights, where they are on this machine."""
    batch: int | None
    """Samples that the call was for; None if it was not kept then."""
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float
    """US dollars; 0 where no price is known."""
    seconds: float
    at: str
    """When its step was committed: UTC, ISO 8601."""


@dataclass(frozen=True)
class Cost:
    """What all calls of one model came to in a run."""

    part: str
    model: str
    digest: str | None
    calls: int
    input_tokens: int
    output_tokens: int
    usd: float
    seconds: float


def keep_calls(
    session: Session, step_pk: int, settings: Mapping[str, Any], calls: Sequence[ModelCall]
) -> None:
    """Add the calls of a step. Which model a tool is, the run's settings know. Raises ModelError for NaN."""
    if calls:  # beneath the ORM, whose bookkeeping would take longer than the step's own row
        rows = [_row(ordinal, call, _described(settings, call)) for ordinal, call in enumerate(calls)]
        session.execute(insert(_CALLS), [{"step_pk": step_pk, **row} for row in rows])


def usage_of(rows: Sequence[ModelCallRow]) -> Usage:
    """What language models took for a step."""
    taken = (Usage(x.requests, x.input_tokens, x.output_tokens, x.usd) for x in rows if x.requests)
    return sum(taken, Usage())


def calls_of(session: Session, run_id: str) -> list[KeptCall]:
    """Every model call of a run, in the order in which its steps were committed."""
    statement: Any = (
        select(
            StepRow.round_index,
            StepRow.step,
            StepRow.region,
            StepRow.candidate,
            ModelCallRow.part,
            ModelCallRow.model,
            ModelCallRow.digest,
            ModelCallRow.batch,
            REQUESTS,
            ModelCallRow.input_tokens,
            ModelCallRow.output_tokens,
            ModelCallRow.usd,
            ModelCallRow.seconds,
            StepRow.committed_at,
        )
        .join(StepRow, StepRow.id == ModelCallRow.step_pk)
        .join(RunRow, RunRow.id == StepRow.run_pk)
        .where(RunRow.run_id == run_id)
        .order_by(StepRow.id, ModelCallRow.ordinal)
    )
    rows: Iterable[Any] = session.execute(statement)
    return [KeptCall(*row) for row in rows]


def costs(calls: Sequence[KeptCall]) -> list[Cost]:
    """The sums by model, in the order in which models were first called."""
    by_model: dict[tuple[str, str, str | None], list[KeptCall]] = {}
    for call in calls:
        by_model.setdefault((call.part, call.model, call.digest), []).append(call)
    return [
        Cost(
            *model,
            calls=sum(x.calls for x in some),
            input_tokens=sum(x.input_tokens for x in some),
            output_tokens=sum(x.output_tokens for x in some),
            usd=sum(x.usd for x in some),
            seconds=sum(x.seconds for x in some),
        )
        for model, some in by_model.items()
    ]


class Spent(NamedTuple):
    """What all models took for a run; None if no calls of it are kept."""

    calls: int | None = None
    tokens: int | None = None
    usd: float | None = None


def spent_by_run(session: Session, runs: Sequence[int]) -> dict[int, Spent]:
    """The sums of runs, by their rows' keys."""
    found = dict.fromkeys(runs, Spent())
    tokens = ModelCallRow.input_tokens + ModelCallRow.output_tokens
    sums: Any = select(StepRow.run_pk, func.sum(REQUESTS), func.sum(tokens), func.sum(ModelCallRow.usd)).join(
        StepRow, StepRow.id == ModelCallRow.step_pk
    )
    for start in range(0, len(runs), AT_ONCE):
        some = runs[start : start + AT_ONCE]
        rows: Iterable[Any] = session.execute(sums.where(StepRow.run_pk.in_(some)).group_by(StepRow.run_pk))
        found |= {pk: Spent(*row) for pk, *row in rows}
    return found


def _row(ordinal: int, call: ModelCall, said: Mapping[str, Any]) -> dict[str, Any]:
    digest = next((said[name] for name in WEIGHTS if said.get(name)), None)
    usage = call.usage
    return {
        "ordinal": ordinal,
        "part": call.part,
        "model": str(said.get("model") or call.name),
        "digest": None if digest is None else str(digest),
        "batch": int(call.batch),
        "seconds": finite(call.seconds, f"time of {call.name}"),
        "requests": int(usage.calls),
        "input_tokens": int(usage.input_tokens),
        "output_tokens": int(usage.output_tokens),
        "usd": finite(usage.usd, f"price of {call.name}"),
    }


def _described(settings: Mapping[str, Any], call: ModelCall) -> Mapping[str, Any]:
    """What the settings say of the tool: under its part, or wherever its name stands; empty if nowhere."""
    found = [said for said in _descriptions(settings) if said.get("name") == call.name]
    own = settings.get(call.part)
    return own if own in found else (found or [{}])[0]


def _descriptions(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in settings.values():
        for said in value if isinstance(value, list | tuple) else [value]:
            if isinstance(said, Mapping):
                yield said

"""From rows to records: a run with all its rounds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from contracts.errors import InvalidInput
from contracts.records import (
    Answer,
    Box,
    Candidate,
    Diagnosis,
    Finding,
    Image,
    LeftOut,
    Mask,
    RegionPlan,
    Repair,
    Review,
    Revision,
    Round,
    Run,
    RunStatus,
    Score,
    Usage,
    Verdict,
)
from memory_bank.costs import usage_of
from memory_bank.database import Database
from memory_bank.lease import is_live
from memory_bank.listing import RunFilter, RunSummary, summaries
from memory_bank.rows import not_found
from memory_bank.settings import check_run_id
from memory_bank.store import ContentStore
from memory_bank.tables import (
    CandidateRow,
    JobRow,
    RegionRow,
    ReviewRow,
    RevisionRow,
    RoundRow,
    RunRow,
    StepRow,
    VerdictRow,
)


class Arrays(Protocol):
    """Where masks and weights come from."""

    def mask(self, digest: str) -> Mask: ...

    def weights(self, digest: str) -> NDArray[np.uint8]: ...


class NoArrays:
    """Stands for the store in a listing."""

    def mask(self, _digest: str) -> Mask:
        return np.zeros((0, 0), dtype=bool)

    def weights(self, _digest: str) -> NDArray[np.uint8]:
        return np.zeros((0, 0), dtype=np.uint8)


class Reading:
    """The part of the memory bank that reads runs, and base of the others."""

    def __init__(self, database: Database, store: ContentStore) -> None:
        self._database, self._store = database, store

    def close(self) -> None:
        """Close the database connections."""
        self._database.close()

    def load(self, run_id: str) -> Run:
        """The run with all that was committed, masks included. Raises RunNotFound, MemoryBankError."""
        return self._read_run(run_id, self._store)

    def runs(self, limit: int = 50) -> list[Run]:
        """The latest runs, newest first.

        Masks and weights are left in the store and stand here as empty (0, 0) arrays, so that a
        listing stays quick and one damaged file does not hide all runs; `load` brings them.
        """
        if limit < 0:
            raise InvalidInput(f"limit {limit} cannot be used: choose 0 or more")

        def work(session: Session) -> list[Run]:
            rows = session.scalars(whole_runs().order_by(RunRow.id.desc()).limit(limit))
            return [run_of(row, NoArrays()) for row in rows]

        return self._database.read(work)

    def summaries(self, wanted: RunFilter) -> list[RunSummary]:
        """Runs at a glance, as the filter says."""
        return self._database.read(lambda session: summaries(session, wanted))

    def image(self, digest: str) -> Image:
        """The stored uint8 (H, W, 3) picture. Raises MemoryBankError if it is missing or damaged."""
        return self._store.image(digest)

    def where(self) -> tuple[str, str]:
        """The database and the store, as shown to a person."""
        return self._database.name or "", self._store.root

    def job(self, run_id: str) -> dict[str, Any] | None:
        """What was asked for; None if the run was begun without a word about it."""
        wanted = select(JobRow.parameters).where(JobRow.run_id == check_run_id(run_id))
        return self._database.read(lambda session: session.scalar(wanted))

    def outline(self, run_id: str) -> Run:
        """The run as in a listing, with masks and weights empty: for who must not fail over a lost file.
        Raises RunNotFound."""
        return self._read_run(run_id, NoArrays())

    def _read_run(self, run_id: str, arrays: Arrays) -> Run:
        check_run_id(run_id)

        def work(session: Session) -> Run:
            row = session.scalar(whole_runs().where(RunRow.run_id == run_id))
            if row is None:
                raise not_found(run_id)
            return run_of(row, arrays)

        return self._database.read(work)


def whole_runs() -> Any:
    """A select of runs with everything that `run_of` reads, in few queries."""
    rounds = selectinload(RunRow.rounds)
    parts = (
        RoundRow.findings,
        RoundRow.scores,
        RoundRow.review,
        RoundRow.verdict,
        RoundRow.revision,
        RoundRow.left_out,
        RoundRow.result,
    )
    return select(RunRow).options(
        selectinload(RunRow.steps).selectinload(StepRow.calls),
        *(rounds.selectinload(part) for part in parts),
        rounds.selectinload(RoundRow.regions).selectinload(RegionRow.candidates),
    )


def run_of(row: RunRow, arrays: Arrays) -> Run:
    """The record of a run's rows, read as `whole_runs` does."""
    by_round: dict[int, list[StepRow]] = {}
    for step in row.steps:
        by_round.setdefault(step.round_index, []).append(step)
    return Run(
        run_id=row.run_id,
        kind=row.kind,  # type: ignore[arg-type]  # checked when the run began
        prompt=row.prompt,
        seed=row.seed,
        settings=row.settings,
        status=_status(row),
        created=row.created,
        earlier_settings=tuple(row.earlier_settings or ()),
        rounds=tuple(_round(r, _Taken(by_round.get(r.round_index, [])), arrays) for r in row.rounds),
    )


class _Taken:
    """What the committed steps of one round took."""

    def __init__(self, steps: Sequence[StepRow]) -> None:
        self.steps = {step.step for step in steps}
        self.seconds: dict[str, float] = {}
        self._calls = {(step.step, step.region, step.candidate): step.calls for step in steps if step.calls}
        for step in steps:
            if step.seconds is not None:  # the regions of a round add up
                self.seconds[step.step] = self.seconds.get(step.step, 0.0) + step.seconds

    def usage(self, step: str, region: int = 0, candidate: int = 0) -> Usage:
        return usage_of(self._calls.get((step, region, candidate), ()))


def _status(row: RunRow) -> RunStatus:
    """As stored, but a run that nobody alive holds is not running, whatever a killed process left."""
    if row.status == "running" and not is_live(row.lease_holder, row.lease_expiry, time.time()):
        return "interrupted"
    return row.status  # type: ignore[return-value]  # checked when it was set


def _round(row: RoundRow, taken: _Taken, arrays: Arrays) -> Round:
    return Round(
        index=row.round_index,
        prompt=row.prompt,
        seed=row.seed,
        image=row.image,
        diagnosis=_diagnosis(row, taken, arrays) if "diagnosis" in taken.steps else None,
        scores=tuple(Score(s.name, s.version, s.value) for s in row.scores)
        if "scores" in taken.steps
        else None,
        review=None if row.review is None else _review(row.review),
        verdict=None if row.verdict is None else _verdict(row.verdict),
        revision=None if row.revision is None else _revision(row.revision, taken.usage("revision")),
        seconds=taken.seconds,
        repairs=tuple(_repair(r, taken, arrays) for r in row.regions) if "plan" in taken.steps else None,
        left_out=tuple(
            LeftOut(_findings(x.findings, arrays), arrays.mask(x.mask), x.reason) for x in row.left_out
        ),
        result=None if row.result is None else row.result.image,
        outside=None if row.result is None else row.result.outside,
    )


def _repair(row: RegionRow, taken: _Taken, arrays: Arrays) -> Repair:
    width, height = row.target
    plan = RegionPlan(
        findings=_findings(row.findings, arrays),
        core=arrays.mask(row.core),
        weights=arrays.weights(row.weights),
        crop=Box(*row.crop),
        target=(width, height),
        gain=row.gain,
    )
    candidates = tuple(
        _candidate(c, taken.usage("look", row.ordinal, c.ordinal), arrays) for c in row.candidates
    )
    return Repair(
        plan,
        row.prompt,
        candidates,
        row.accepted,
        row.reason,
        row.chosen,
        row.picture,
        _answers(row.answers),
        taken.usage("prompt", row.ordinal),
    )


def _candidate(row: CandidateRow, usage: Usage, arrays: Arrays) -> Candidate:
    found = row.diagnosis
    return Candidate(
        seed=row.seed,
        painted=row.painted,
        diagnosis=None
        if found is None
        else Diagnosis(
            _findings(found["findings"], arrays), found["synthetic_probability"], found["answer"], usage
        ),
        scores=None if row.scores is None else tuple(Score(**score) for score in row.scores),
        seam=row.seam,
        outside=row.outside,
        accepted=row.accepted,
        reason=row.reason,
    )


def _findings(values: Sequence[Mapping[str, Any]], arrays: Arrays) -> tuple[Finding, ...]:
    return tuple(Finding(**{**value, "mask": arrays.mask(value["mask"])}) for value in values)


def _diagnosis(row: RoundRow, taken: _Taken, arrays: Arrays) -> Diagnosis:
    findings = tuple(
        Finding(
            mask=arrays.mask(f.mask),
            phrase=f.phrase,
            explanation=f.explanation,
            category=f.category,  # type: ignore[arg-type]  # one of CATEGORIES when it was committed
            confidence=f.confidence,
        )
        for f in row.findings
    )
    return Diagnosis(findings, row.synthetic_probability, row.answer or "", taken.usage("diagnosis"))


def _review(row: ReviewRow) -> Review:
    return Review(
        decision=row.decision,  # type: ignore[arg-type]  # one of them when it was committed
        who=row.who,
        when=row.decided_at,
        prompt=row.prompt,
        thresholds=row.thresholds,
        note=row.note,
    )


def _verdict(row: VerdictRow) -> Verdict:
    return Verdict(row.accepted, row.reason, row.stop)


def _revision(row: RevisionRow, usage: Usage) -> Revision:
    return Revision(row.prompt, tuple(row.addressed), row.reason, usage, _answers(row.answers))


def _answers(values: Sequence[Mapping[str, Any]] | None) -> tuple[Answer, ...]:
    return tuple(Answer(**value) for value in values or ())

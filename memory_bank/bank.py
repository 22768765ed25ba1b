"""The MemoryBank protocol over a SQL database and a content-addressed store.

Pictures and masks are stored before the transaction that names them, so a row never points at a file that
was not written; a crash in between leaves a file that nothing names, which does no harm.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar, cast, get_args

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from contracts.errors import (
    AlreadyCommitted,
    InvalidInput,
    MemoryBankError,
    ModelError,
    RunBusy,
    RunNotFound,
    SettingsChanged,
)
from contracts.records import (
    Box,
    Candidate,
    Content,
    Diagnosis,
    Finding,
    Image,
    LeftOut,
    Mask,
    RegionPlan,
    Repair,
    Revision,
    Round,
    Run,
    RunStatus,
    Score,
    Usage,
    Verdict,
)
from memory_bank.database import Database, Opening
from memory_bank.lease import LEASE_SECONDS, LeaseKeeper, describe, is_live, is_ours, new_holder
from memory_bank.listing import RunFilter, RunSummary, summaries
from memory_bank.places import database_url, store_root
from memory_bank.schema import revision_of
from memory_bank.settings import KINDS, check_run_id, check_seed, check_text, difference, plain
from memory_bank.store import ContentStore, Stored
from memory_bank.tables import (
    CandidateRow,
    FindingRow,
    JobRow,
    LeftOutRow,
    RegionRow,
    ResultRow,
    RevisionRow,
    RevisionUsageRow,
    RoundRow,
    RunRow,
    ScoreRow,
    StepRow,
    VerdictRow,
)
from memory_bank.upkeep import (
    Place,
    Progress,
    check_database,
    check_idle,
    lost,
    no_progress,
    places,
    references,
    unreferenced,
)

T = TypeVar("T")


def open_memory_bank(
    url: str | None = None, images: str | None = None, opening: Opening = "use"
) -> SqlMemoryBank:
    """The memory bank at a database URL and an image store, by default the user's own.

    `url` falls back to LEGION_DATABASE_URL, then to a SQLite file under LEGION_HOME or the user's data
    directory; `images` (a folder or fsspec URL) to LEGION_STORE_URL, then to `store` beside that file. Raises
    MemoryBankError, InvalidInput.
    """
    return SqlMemoryBank(url, images, opening=opening)


class SqlMemoryBank:
    """Every step kept, once. May be shared by the threads of a process; processes open their own."""

    def __init__(
        self,
        url: str | None = None,
        images: str | None = None,
        *,
        lease_seconds: float = LEASE_SECONDS,
        opening: Opening = "use",
    ) -> None:
        """Arguments as of `open_memory_bank`; a lease expires `lease_seconds` after its last renewal."""
        address = database_url(url)
        self._database = Database(address, opening)
        self._store = ContentStore(store_root(images, address))
        self._lease_seconds = lease_seconds
        self._keeper = LeaseKeeper(self._renew, lease_seconds / 3)

    def close(self) -> None:
        """Close the database connections."""
        self._database.close()

    # --- runs ----------------------------------------------------------------------------------------------

    def begin(
        self, run_id: str, *, kind: str, prompt: str, seed: int, settings: Mapping[str, object]
    ) -> AbstractContextManager[Run]:
        """Create the run, or take it up again, and hold it until the context ends.

        Raises InvalidInput for an id, kind, seed, prompt or settings that cannot be kept; RunBusy if a live
        process holds the run; SettingsChanged, with what differs, if it began with other values. Leaving by
        an exception marks an unfinished run "interrupted"; a finished one stays finished.
        """
        check_run_id(run_id)
        if kind not in KINDS:
            raise InvalidInput(f"kind {kind!r} cannot be used: choose one of {', '.join(KINDS)}")
        values = {
            "kind": kind,
            "prompt": check_text(prompt, "prompt"),
            "seed": check_seed(seed),
            "settings": plain(settings),
        }
        return self._hold(run_id, values)

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
            rows = session.scalars(_whole_runs().order_by(RunRow.id.desc()).limit(limit))
            return [_run(row, _NoArrays()) for row in rows]

        return self._database.read(work)

    def finish(self, run_id: str, status: RunStatus) -> None:
        """Set the run's status. Raises RunNotFound, RunBusy if it is not held here, InvalidInput."""
        if status not in get_args(RunStatus):
            raise InvalidInput(f"status {status!r} cannot be used: choose from {get_args(RunStatus)}")

        def work(session: Session) -> None:
            _held_run(session, run_id).status = status

        self._database.write(work)

    def summaries(self, wanted: RunFilter) -> list[RunSummary]:
        """Runs at a glance, as the filter says."""
        return self._database.read(lambda session: summaries(session, wanted))

    def keep_job(self, run_id: str, parameters: Mapping[str, object]) -> None:
        """Keep what was asked for, as JSON; the first word stands. Raises InvalidInput."""
        check_run_id(run_id)
        values = plain(parameters)

        def work(session: Session) -> None:
            if session.scalar(select(JobRow.id).where(JobRow.run_id == run_id)) is None:
                session.add(JobRow(run_id=run_id, parameters=values))

        with contextlib.suppress(IntegrityError):  # another process was faster
            self._database.write(work)

    def job(self, run_id: str) -> dict[str, Any] | None:
        """What was asked for; None if the run was begun without a word about it."""
        wanted = select(JobRow.parameters).where(JobRow.run_id == check_run_id(run_id))
        return self._database.read(lambda session: session.scalar(wanted))

    def outline(self, run_id: str) -> Run:
        """The run as in a listing, with masks and weights empty: for who must not fail over a lost file.
        Raises RunNotFound."""
        return self._read_run(run_id, _NoArrays())

    def _read_run(self, run_id: str, arrays: _Arrays) -> Run:
        check_run_id(run_id)

        def work(session: Session) -> Run:
            row = session.scalar(_whole_runs().where(RunRow.run_id == run_id))
            if row is None:
                raise _not_found(run_id)
            return _run(row, arrays)

        return self._database.read(work)

    # --- upkeep --------------------------------------------------------------------------------------------

    def where(self) -> tuple[str, str]:
        """The database and the store, as shown to a person."""
        return self._database.name or "", self._store.root

    def schema(self) -> str | None:
        """The database's schema, None if it has no tables yet. Raises MemoryBankError."""
        return self._database.read(revision_of)

    def check_database(self) -> None:
        """Raises MemoryBankError if the database's file is damaged."""
        self._database.read(check_database)

    def lost(self, run_id: str | None = None, progress: Progress = no_progress) -> list[Content]:
        """Content that the rows of a run, or of all runs, name and the store does not hold whole."""
        named = self._database.read(lambda session: list(references(session, run_id)))
        return lost(named, self._store, progress)

    def put_back(self, kind: Literal["image", "mask"], pixels: Image | Mask) -> str:
        """Store content that was made anew; its digest tells whether it is what was lost."""
        if kind == "image":
            return self._store.put_image(cast(Image, pixels))
        return self._store.put_mask(cast(Mask, pixels))

    def places(self, digest: str) -> list[Place]:
        """Where a picture appears, the latest first."""
        return self._database.read(lambda session: places(session, digest))

    def unreferenced(self) -> list[Stored]:
        """Files of the store that no row names."""
        return self._database.read(lambda session: unreferenced(session, self._store))

    def collect(self) -> list[Stored]:
        """Delete the files that no row names, and return them. Raises RunBusy while a run is under way."""

        def work(session: Session) -> list[Stored]:
            check_idle(session)
            files = unreferenced(session, self._store)
            for file in files:
                self._store.remove(file.path)
            return files

        return self._database.write(work)

    # --- steps ---------------------------------------------------------------------------------------------

    def open_round(self, run_id: str, index: int, prompt: str, seed: int) -> Round:
        """Begin round `index` (1, then one more each time). Raises AlreadyCommitted."""
        check_text(prompt, "prompt")
        check_seed(seed)

        def rows(session: Session, run: RunRow) -> None:
            last = session.scalars(select(RoundRow.round_index).where(RoundRow.run_pk == run.id)).all()
            if index != len(last) + 1:
                raise MemoryBankError(f"run {run_id} cannot open round {index}: {len(last) + 1} is next")
            session.add(RoundRow(run_pk=run.id, round_index=int(index), prompt=prompt, seed=int(seed)))

        self._commit(run_id, index, "open", None, rows)
        return Round(index=int(index), prompt=prompt, seed=int(seed))

    def commit_image(self, run_id: str, index: int, image: Image, seconds: float) -> str:
        """Store the uint8 (H, W, 3) picture and return its digest. Raises AlreadyCommitted."""
        digest = self._store.put_image(image)

        def rows(session: Session, run: RunRow) -> None:
            _round_row(session, run, index).image = digest

        self._commit(run_id, index, "image", seconds, rows)
        return digest

    def commit_diagnosis(self, run_id: str, index: int, diagnosis: Diagnosis, seconds: float) -> None:
        """Store the findings with their bool (H, W) masks. Raises AlreadyCommitted, ModelError for NaN."""
        probability = diagnosis.synthetic_probability
        if probability is not None:
            probability = _finite(probability, "synthetic probability")
        confidences = [_finite(f.confidence, f"confidence of {f.phrase!r}") for f in diagnosis.findings]
        masks = [self._store.put_mask(finding.mask) for finding in diagnosis.findings]

        def rows(session: Session, run: RunRow) -> None:
            row = _round_row(session, run, index)
            row.answer, row.synthetic_probability = diagnosis.answer, probability
            kept = zip(diagnosis.findings, confidences, masks, strict=True)
            session.add_all(
                FindingRow(
                    round_pk=row.id,
                    ordinal=ordinal,
                    phrase=finding.phrase,
                    explanation=finding.explanation,
                    category=finding.category,
                    confidence=confidence,
                    mask=mask,
                )
                for ordinal, (finding, confidence, mask) in enumerate(kept)
            )

        self._commit(run_id, index, "diagnosis", seconds, rows)

    def commit_scores(self, run_id: str, index: int, scores: Sequence[Score], seconds: float) -> None:
        """Store the scores in their order. Raises AlreadyCommitted, ModelError for NaN."""
        values = [_finite(score.value, f"score {score.name}") for score in scores]

        def rows(session: Session, run: RunRow) -> None:
            row = _round_row(session, run, index)
            session.add_all(
                ScoreRow(
                    round_pk=row.id, ordinal=ordinal, name=score.name, version=score.version, value=value
                )
                for ordinal, (score, value) in enumerate(zip(scores, values, strict=True))
            )

        self._commit(run_id, index, "scores", seconds, rows)

    def commit_verdict(self, run_id: str, index: int, verdict: Verdict) -> None:
        """Store the gate's word on the round. Raises AlreadyCommitted."""

        def rows(session: Session, run: RunRow) -> None:
            row = _round_row(session, run, index)
            session.add(
                VerdictRow(
                    round_pk=row.id, accepted=bool(verdict.accepted), reason=verdict.reason, stop=verdict.stop
                )
            )

        self._commit(run_id, index, "verdict", None, rows)

    def commit_revision(self, run_id: str, index: int, revision: Revision, seconds: float) -> None:
        """Store the prompt for the next round. Raises AlreadyCommitted."""
        check_text(revision.prompt, "revised prompt")

        def rows(session: Session, run: RunRow) -> None:
            row = _round_row(session, run, index)
            session.add(
                RevisionRow(
                    round_pk=row.id,
                    prompt=revision.prompt,
                    addressed=list(revision.addressed),
                    reason=revision.reason,
                    usage=_usage_row(revision.usage),
                )
            )

        self._commit(run_id, index, "revision", seconds, rows)

    # --- steps of inpainting -------------------------------------------------------------------------------

    def commit_plan(
        self, run_id: str, index: int, regions: Sequence[RegionPlan], left_out: Sequence[LeftOut]
    ) -> None:
        """Store what is to be repaired, numbered from 1, and what not. Raises AlreadyCommitted."""
        planned = [self._region_values(region) for region in regions]
        passed = [
            (self._finding_values(x.findings), self._store.put_mask(x.mask), x.reason) for x in left_out
        ]

        def rows(session: Session, run: RunRow) -> None:
            row = _round_row(session, run, index)
            session.add_all(
                RegionRow(round_pk=row.id, ordinal=ordinal, **values)
                for ordinal, values in enumerate(planned, start=1)
            )
            session.add_all(
                LeftOutRow(round_pk=row.id, ordinal=ordinal, findings=findings, mask=mask, reason=reason)
                for ordinal, (findings, mask, reason) in enumerate(passed)
            )

        self._commit(run_id, index, "plan", None, rows)

    def commit_region_prompt(self, run_id: str, index: int, region: int, prompt: str, seconds: float) -> None:
        """Store what the painter is told about a region. Raises AlreadyCommitted."""
        check_text(prompt, "region's prompt")

        def rows(session: Session, run: RunRow) -> None:
            _region_row(session, run, index, region).prompt = prompt

        self._commit(run_id, index, "prompt", seconds, rows, region)

    def commit_painting(
        self, run_id: str, index: int, region: int, candidate: int, image: Image, seed: int, seconds: float
    ) -> str:
        """Store the painted crop, uint8 (h, w, 3), and return its digest. Raises AlreadyCommitted."""
        check_seed(seed)
        digest = self._store.put_image(image)

        def rows(session: Session, run: RunRow) -> None:
            row = _region_row(session, run, index, region)
            session.add(CandidateRow(region_pk=row.id, ordinal=candidate, seed=int(seed), painted=digest))

        self._commit(run_id, index, "paint", seconds, rows, region, candidate)
        return digest

    def commit_look(
        self, run_id: str, index: int, region: int, candidate: int, look: Candidate, seconds: float
    ) -> None:
        """Store what was measured on the picture with a candidate, and the gate's word on it.

        Raises AlreadyCommitted, ModelError for NaN or a measurement that is missing.
        """
        if look.diagnosis is None or look.scores is None or look.seam is None or look.accepted is None:
            raise ModelError(f"candidate {candidate} of region {region} was not measured: nothing to commit")
        values = {
            "diagnosis": self._diagnosis_values(look.diagnosis),
            "scores": [
                {"name": s.name, "version": s.version, "value": _finite(s.value, f"score {s.name}")}
                for s in look.scores
            ],
            "seam": _finite(look.seam, "seam"),
            "outside": look.outside,
            "accepted": bool(look.accepted),
            "reason": look.reason,
        }

        def rows(session: Session, run: RunRow) -> None:
            region_row = _region_row(session, run, index, region)
            row = next((c for c in region_row.candidates if c.ordinal == candidate), None)
            if row is None:
                raise MemoryBankError(f"candidate {candidate} of region {region} of {run_id} is not painted")
            for name, value in values.items():
                setattr(row, name, value)

        self._commit(run_id, index, "look", seconds, rows, region, candidate)

    def commit_repair(
        self, run_id: str, index: int, region: int, repair: Repair, picture: Image | None
    ) -> str | None:
        """Store what became of a region, and the whole picture with it if it was accepted; its digest.

        Raises AlreadyCommitted, ModelError if the verdict is missing or does not go with the picture.
        """
        if repair.accepted is None or repair.accepted != (picture is not None):
            raise ModelError(f"region {region} of round {index} is decided without a picture, or undecided")
        digest = None if picture is None else self._store.put_image(picture)

        def rows(session: Session, run: RunRow) -> None:
            row = _region_row(session, run, index, region)
            row.accepted, row.reason, row.chosen = bool(repair.accepted), repair.reason, repair.chosen
            row.picture = digest

        self._commit(run_id, index, "repair", None, rows, region)
        return digest

    def commit_result(self, run_id: str, index: int, image: str, outside: str) -> None:
        """Store the digests of the picture after the round and of all pixels outside the supports.

        Raises AlreadyCommitted.
        """

        def rows(session: Session, run: RunRow) -> None:
            row = _round_row(session, run, index)
            session.add(ResultRow(round_pk=row.id, image=image, outside=outside))

        self._commit(run_id, index, "result", None, rows)

    def image(self, digest: str) -> Image:
        """The stored uint8 (H, W, 3) picture. Raises MemoryBankError if it is missing or damaged."""
        return self._store.image(digest)

    def _commit(
        self,
        run_id: str,
        index: int,
        step: str,
        seconds: float | None,
        rows: Callable[[Session, RunRow], None],
        region: int = 0,
        candidate: int = 0,
    ) -> None:
        """One transaction: the run is still ours, the step is new, its rows are written."""
        check_run_id(run_id)

        def work(session: Session) -> None:
            run = _held_run(session, run_id)
            session.add(
                StepRow(
                    run_pk=run.id,
                    round_index=int(index),
                    step=step,
                    region=int(region),
                    candidate=int(candidate),
                    seconds=None if seconds is None else float(seconds),
                    committed_at=_now(),
                )
            )
            try:
                session.flush()
            except IntegrityError as error:
                place = _place(index, region, candidate)
                raise AlreadyCommitted(
                    f"step {step!r} of {place} of run {run_id} was already committed; "
                    "load the run and go on from its next step"
                ) from error
            rows(session, run)

        self._database.write(work)

    def _region_values(self, region: RegionPlan) -> dict[str, Any]:
        return {
            "findings": self._finding_values(region.findings),
            "core": self._store.put_mask(region.core),
            "weights": self._store.put_weights(region.weights),
            "crop": [int(side) for side in region.crop],
            "target": [int(side) for side in region.target],
            "gain": _finite(region.gain, "gain"),
        }

    def _finding_values(self, findings: Sequence[Finding]) -> list[dict[str, Any]]:
        """Findings as JSON, their masks in the store."""
        return [
            {
                "phrase": f.phrase,
                "explanation": f.explanation,
                "category": f.category,
                "confidence": _finite(f.confidence, f"confidence of {f.phrase!r}"),
                "mask": self._store.put_mask(f.mask),
            }
            for f in findings
        ]

    def _diagnosis_values(self, diagnosis: Diagnosis) -> dict[str, Any]:
        probability = diagnosis.synthetic_probability
        return {
            "findings": self._finding_values(diagnosis.findings),
            "answer": diagnosis.answer,
            "synthetic_probability": None
            if probability is None
            else _finite(probability, "synthetic probability"),
        }

    # --- holding -------------------------------------------------------------------------------------------

    @contextmanager
    def _hold(self, run_id: str, values: Mapping[str, Any]) -> Iterator[Run]:
        holder = new_holder()
        self._keeper.hold(holder)  # before the row is written, so that it is known as live at once
        try:
            self._take(run_id, values, holder)
            yield self.load(run_id)
        except BaseException:
            with contextlib.suppress(MemoryBankError):  # the first error is the one to show
                self._release(holder, interrupted=True)
            raise
        else:
            self._release(holder, interrupted=False)
        finally:
            self._keeper.drop(holder)

    def _take(self, run_id: str, values: Mapping[str, Any], holder: str) -> None:
        def work(session: Session) -> None:
            run = session.scalar(select(RunRow).where(RunRow.run_id == run_id).with_for_update())
            if run is None:
                run = RunRow(run_id=run_id, status="running", created=_now(), **values)
                session.add(run)
            else:
                _check_same(run, values)
                _check_free(run)
                run.status = "finished" if run.status == "finished" else "running"
            now = time.time()
            run.lease_holder = holder
            run.lease_heartbeat, run.lease_expiry = now, now + self._lease_seconds

        try:
            self._database.write(work)
        except IntegrityError as error:
            raise RunBusy(
                f"run {run_id} was begun by another process at the same moment; use another run id"
            ) from error

    def _release(self, holder: str, *, interrupted: bool) -> None:
        """Give the lease back, if it is still ours: a run that was taken over belongs to its new holder."""

        def work(session: Session) -> None:
            run = session.scalar(select(RunRow).where(RunRow.lease_holder == holder).with_for_update())
            if run is None:
                return
            run.lease_holder = run.lease_heartbeat = run.lease_expiry = None
            if interrupted and run.status != "finished":
                run.status = "interrupted"

        self._database.write(work)

    def _renew(self, holders: Collection[str]) -> None:
        now = time.time()
        renewal = (
            update(RunRow)
            .where(RunRow.lease_holder.in_(holders))
            .values(lease_heartbeat=now, lease_expiry=now + self._lease_seconds)
            .execution_options(synchronize_session=False)
        )
        # A beat that fails is made up for by the next; a lease that is lost shows at the next commit.
        with contextlib.suppress(MemoryBankError):
            self._database.write(lambda session: session.execute(renewal) and None)


def _check_same(run: RunRow, values: Mapping[str, Any]) -> None:
    before = {"kind": run.kind, "prompt": run.prompt, "seed": run.seed, "settings": run.settings}
    if changed := difference(before, values):
        raise SettingsChanged(
            f"run {run.run_id} began with other values: {changed}; use those again or another run id"
        )


def _check_free(run: RunRow) -> None:
    if is_live(run.lease_holder, run.lease_expiry, time.time()):
        raise _busy(run)


def _held_run(session: Session, run_id: str) -> RunRow:
    """The run's row, locked, if this process holds it. Raises RunNotFound, RunBusy."""
    run = session.scalar(select(RunRow).where(RunRow.run_id == run_id).with_for_update())
    if run is None:
        raise _not_found(run_id)
    if not is_ours(run.lease_holder):
        raise _busy(run)
    return run


def _round_row(session: Session, run: RunRow, index: int) -> RoundRow:
    wanted = select(RoundRow).where(RoundRow.run_pk == run.id, RoundRow.round_index == int(index))
    row = session.scalar(wanted)
    if row is None:
        raise MemoryBankError(f"run {run.run_id} has no round {index}: open it before committing to it")
    return row


def _region_row(session: Session, run: RunRow, index: int, region: int) -> RegionRow:
    round_row = _round_row(session, run, index)
    wanted = select(RegionRow).where(RegionRow.round_pk == round_row.id, RegionRow.ordinal == int(region))
    row = session.scalar(wanted)
    if row is None:
        raise MemoryBankError(
            f"round {index} of run {run.run_id} has no region {region}: commit its plan first"
        )
    return row


def _place(index: int, region: int, candidate: int) -> str:
    """`round 2`, `round 2, region 1`, `round 2, region 1, candidate 3`."""
    named = (("round", index), ("region", region), ("candidate", candidate))
    return ", ".join(f"{name} {number}" for name, number in named if number)


def _busy(run: RunRow) -> RunBusy:
    if run.lease_holder is None:
        return RunBusy(f"run {run.run_id} is not held by this process: begin it before committing to it")
    ago = max(0.0, time.time() - (run.lease_heartbeat or 0.0))
    return RunBusy(
        f"run {run.run_id} is held by {describe(run.lease_holder)} (last sign of life {ago:.0f} s ago); "
        "wait until it ends or use another run id"
    )


def _not_found(run_id: str) -> RunNotFound:
    return RunNotFound(f"no run {run_id} in the memory bank; `legion runs` lists those there are")


def _whole_runs() -> Any:
    rounds = selectinload(RunRow.rounds)
    parts = (
        RoundRow.findings,
        RoundRow.scores,
        RoundRow.verdict,
        RoundRow.left_out,
        RoundRow.result,
    )
    return select(RunRow).options(
        selectinload(RunRow.steps),
        *(rounds.selectinload(part) for part in parts),
        rounds.selectinload(RoundRow.revision).selectinload(RevisionRow.usage),
        rounds.selectinload(RoundRow.regions).selectinload(RegionRow.candidates),
    )


class _Arrays(Protocol):
    """Where masks and weights come from."""

    def mask(self, digest: str) -> Mask: ...

    def weights(self, digest: str) -> NDArray[np.uint8]: ...


class _NoArrays:
    """Stands for the store in a listing."""

    def mask(self, _digest: str) -> Mask:
        return np.zeros((0, 0), dtype=bool)

    def weights(self, _digest: str) -> NDArray[np.uint8]:
        return np.zeros((0, 0), dtype=np.uint8)


def _run(row: RunRow, arrays: _Arrays) -> Run:
    steps: dict[int, dict[str, float | None]] = {}
    for step in row.steps:
        taken = steps.setdefault(step.round_index, {})
        if step.step in taken and step.seconds is not None:
            taken[step.step] = (taken[step.step] or 0.0) + step.seconds  # the regions of a round add up
        else:
            taken[step.step] = step.seconds
    return Run(
        run_id=row.run_id,
        kind=row.kind,  # type: ignore[arg-type]  # checked when the run began
        prompt=row.prompt,
        seed=row.seed,
        settings=row.settings,
        status=_status(row),
        created=row.created,
        rounds=tuple(_round(r, steps.get(r.round_index, {}), arrays) for r in row.rounds),
    )


def _status(row: RunRow) -> RunStatus:
    """As stored, but a run that nobody alive holds is not running, whatever a killed process left."""
    if row.status == "running" and not is_live(row.lease_holder, row.lease_expiry, time.time()):
        return "interrupted"
    return row.status  # type: ignore[return-value]  # checked when it was set


def _round(row: RoundRow, steps: Mapping[str, float | None], arrays: _Arrays) -> Round:
    return Round(
        index=row.round_index,
        prompt=row.prompt,
        seed=row.seed,
        image=row.image,
        diagnosis=_diagnosis(row, arrays) if "diagnosis" in steps else None,
        scores=tuple(Score(s.name, s.version, s.value) for s in row.scores) if "scores" in steps else None,
        verdict=None if row.verdict is None else _verdict(row.verdict),
        revision=None if row.revision is None else _revision(row.revision),
        seconds={step: seconds for step, seconds in steps.items() if seconds is not None},
        repairs=tuple(_repair(r, arrays) for r in row.regions) if "plan" in steps else None,
        left_out=tuple(
            LeftOut(_findings(x.findings, arrays), arrays.mask(x.mask), x.reason) for x in row.left_out
        ),
        result=None if row.result is None else row.result.image,
        outside=None if row.result is None else row.result.outside,
    )


def _repair(row: RegionRow, arrays: _Arrays) -> Repair:
    width, height = row.target
    plan = RegionPlan(
        findings=_findings(row.findings, arrays),
        core=arrays.mask(row.core),
        weights=arrays.weights(row.weights),
        crop=Box(*row.crop),
        target=(width, height),
        gain=row.gain,
    )
    candidates = tuple(_candidate(c, arrays) for c in row.candidates)
    return Repair(plan, row.prompt, candidates, row.accepted, row.reason, row.chosen, row.picture)


def _candidate(row: CandidateRow, arrays: _Arrays) -> Candidate:
    found = row.diagnosis
    return Candidate(
        seed=row.seed,
        painted=row.painted,
        diagnosis=None
        if found is None
        else Diagnosis(_findings(found["findings"], arrays), found["synthetic_probability"], found["answer"]),
        scores=None if row.scores is None else tuple(Score(**score) for score in row.scores),
        seam=row.seam,
        outside=row.outside,
        accepted=row.accepted,
        reason=row.reason,
    )


def _findings(values: Sequence[Mapping[str, Any]], arrays: _Arrays) -> tuple[Finding, ...]:
    return tuple(Finding(**{**value, "mask": arrays.mask(value["mask"])}) for value in values)


def _diagnosis(row: RoundRow, arrays: _Arrays) -> Diagnosis:
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
    return Diagnosis(findings, row.synthetic_probability, row.answer or "")


def _verdict(row: VerdictRow) -> Verdict:
    return Verdict(row.accepted, row.reason, row.stop)


def _revision(row: RevisionRow) -> Revision:
    taken = row.usage
    usage = Usage(taken.calls, taken.input_tokens, taken.output_tokens, taken.usd) if taken else Usage()
    return Revision(row.prompt, tuple(row.addressed), row.reason, usage)


def _usage_row(usage: Usage) -> RevisionUsageRow | None:
    return RevisionUsageRow(**asdict(usage)) if usage.calls else None


def _finite(value: float, what: str) -> float:
    """A plain float: SQLite keeps numpy's as bytes and NaN as nothing. Raises ModelError if not finite."""
    if not math.isfinite(value):
        raise ModelError(f"the {what} is {value}, not a number that can be compared; the model failed")
    return float(value)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")

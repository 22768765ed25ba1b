"""Runs that are begun, taken up again, held by one process at a time, and given back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, get_args

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from contracts.errors import InvalidInput, MemoryBankError, RunBusy, SettingsChanged
from contracts.records import Run, RunStatus
from memory_bank.database import Database
from memory_bank.experience import latest_trial
from memory_bank.lease import LEASE_SECONDS, LeaseKeeper, is_live, new_holder
from memory_bank.reading import Reading
from memory_bank.rows import busy, held_run, now
from memory_bank.settings import KINDS, check_run_id, check_seed, check_text, difference, plain
from memory_bank.store import ContentStore
from memory_bank.tables import JobRow, RoundRow, RunRow

GIVEN = {"picture": "picture", "mask": "mask", "protected": "protected area"}
"""Settings of inpainting that hold digests of what a person gave, and what that is called."""


class Holding(Reading):
    """The part of the memory bank that holds runs."""

    def __init__(self, database: Database, store: ContentStore, lease_seconds: float = LEASE_SECONDS) -> None:
        """A lease expires `lease_seconds` after its last renewal."""
        super().__init__(database, store)
        self._lease_seconds = lease_seconds
        self._keeper = LeaseKeeper(self._renew, lease_seconds / 3)
        self._may_change: dict[str, dict[str, Any] | None] = {}
        """Runs that may go on with other settings, and what is asked for now."""

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

    def allow_changes(self, run_id: str) -> None:
        """Let `begin` take an unfinished run up with other settings. What it began with is kept, and what is
        asked for from now on takes the place of what was asked for first."""
        self._may_change[check_run_id(run_id)] = None

    def keep_job(self, run_id: str, parameters: Mapping[str, object]) -> None:
        """Keep what was asked for, as JSON; the first word stands, unless the run is changed. Raises
        InvalidInput."""
        check_run_id(run_id)
        values = plain(parameters)
        if run_id in self._may_change:
            self._may_change[run_id] = values

        def work(session: Session) -> None:
            if session.scalar(select(JobRow.id).where(JobRow.run_id == run_id)) is None:
                session.add(JobRow(run_id=run_id, parameters=values))

        with contextlib.suppress(IntegrityError):  # another process was faster
            self._database.write(work)

    def finish(self, run_id: str, status: RunStatus) -> None:
        """Set the run's status. Raises RunNotFound, RunBusy if it is not held here, InvalidInput."""
        if status not in get_args(RunStatus):
            raise InvalidInput(f"status {status!r} cannot be used: choose from {get_args(RunStatus)}")

        def work(session: Session) -> None:
            held_run(session, run_id).status = status

        self._database.write(work)

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
                run = RunRow(run_id=run_id, status="running", created=now(), **values)
                run.trials_before = latest_trial(session)
                session.add(run)
            else:
                if run.lease_holder != holder:  # it is ours if the answer to our first asking was lost
                    _check_free(run)
                if _check_same(run, values, run_id in self._may_change):
                    _change(session, run, values["settings"], self._may_change[run_id])
                run.status = "finished" if run.status == "finished" else "running"
            moment = time.time()
            run.lease_holder = holder
            run.lease_heartbeat, run.lease_expiry = moment, moment + self._lease_seconds

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

        writing = self._database.write_soon if interrupted else self._database.write
        writing(work)

    def _renew(self, holders: Collection[str]) -> None:
        moment = time.time()
        renewal = (
            update(RunRow)
            .where(RunRow.lease_holder.in_(holders))
            .values(lease_heartbeat=moment, lease_expiry=moment + self._lease_seconds)
            .execution_options(synchronize_session=False)
        )
        # A beat that fails is made up for by the next; a lease that is lost shows at the next commit.
        with contextlib.suppress(MemoryBankError):
            self._database.write_soon(lambda session: session.execute(renewal) and None)


def _check_same(run: RunRow, values: Mapping[str, Any], may_change: bool) -> bool:
    """Whether its settings are others now, and may be. Raises SettingsChanged otherwise, with what differs
    and only such ways out as are open."""
    before = {"kind": run.kind, "prompt": run.prompt, "seed": run.seed, "settings": run.settings}
    changed = difference(before, values)
    if not changed:
        return False
    fixed = _other_subject(before, values)
    if fixed or run.status == "finished":
        why = f"began with {fixed}" if fixed else f"is finished ({changed})"
        raise SettingsChanged(f"run {run.run_id} {why}, which cannot be changed: use another run id")
    if not may_change:
        raise SettingsChanged(
            f"run {run.run_id} began with other values: {changed}; use those again, another run id, or "
            "--accept-changes to go on with these"
        )
    return True


def _change(session: Session, run: RunRow, settings: Any, job: dict[str, Any] | None) -> None:
    """Go on with other settings and keep the old ones, with the number of rounds that were open."""
    rounds = session.scalar(select(func.count()).where(RoundRow.run_pk == run.id))
    run.earlier_settings = [*(run.earlier_settings or ()), {"rounds": rounds, "settings": run.settings}]
    run.settings = settings
    if job is not None:
        session.execute(update(JobRow).where(JobRow.run_id == run.run_id).values(parameters=job))


def _other_subject(before: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """How another run is meant, whatever the settings: of another kind, prompt or seed, or of another
    picture to repair, whose digests would tell nobody anything. Empty if this one is."""
    what = ("kind", "prompt", "seed")
    if changed := difference(*({name: of[name] for name in what} for of in (before, values))):
        return f"other values ({changed})"
    was, now = before["settings"], values["settings"]
    return " and ".join(
        f"{'another' if was.get(name) else 'no'} {called}"
        for name, called in GIVEN.items()
        if was.get(name) != now.get(name)
    )


def _check_free(run: RunRow) -> None:
    if is_live(run.lease_holder, run.lease_expiry, time.time()):
        raise busy(run)

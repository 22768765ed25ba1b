"""Rows that a commit needs, found or told missing in one line, values fit to be written into them, and the
runs that living processes hold."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts.errors import MemoryBankError, ModelError, RunBusy, RunNotFound
from memory_bank.lease import describe, is_live, is_ours
from memory_bank.tables import RegionRow, RoundRow, RunRow


def held_run(session: Session, run_id: str) -> RunRow:
    """The run's row, locked, if this process holds it. Raises RunNotFound, RunBusy."""
    run = session.scalar(select(RunRow).where(RunRow.run_id == run_id).with_for_update())
    if run is None:
        raise not_found(run_id)
    if not is_ours(run.lease_holder):
        raise busy(run)
    return run


def round_row(session: Session, run: RunRow, index: int) -> RoundRow:
    """The round's row. Raises MemoryBankError if it is not open."""
    wanted = select(RoundRow).where(RoundRow.run_pk == run.id, RoundRow.round_index == int(index))
    row = session.scalar(wanted)
    if row is None:
        raise MemoryBankError(f"run {run.run_id} has no round {index}: open it before committing to it")
    return row


def region_row(session: Session, run: RunRow, index: int, region: int) -> RegionRow:
    """The region's row. Raises MemoryBankError if it was not planned."""
    of_round = round_row(session, run, index).id
    wanted = select(RegionRow).where(RegionRow.round_pk == of_round, RegionRow.ordinal == int(region))
    row = session.scalar(wanted)
    if row is None:
        raise MemoryBankError(
            f"round {index} of run {run.run_id} has no region {region}: commit its plan first"
        )
    return row


def at_work(session: Session) -> str | None:
    """`process 12 on this machine is working on run x`, for a run that a living process holds, or None."""
    run = next(live_runs(session), None)
    return None if run is None else f"{describe(run.holder)} is working on run {run.run_id}"


class LiveRun(NamedTuple):
    """A run that a living process holds."""

    pk: int
    run_id: str
    holder: str


def live_runs(session: Session) -> Iterator[LiveRun]:
    """Every run that a living process holds."""
    # SQLite would read all runs for IS NOT NULL; both databases use the index for this, and NULL is above
    # nothing.
    held = select(RunRow.id, RunRow.run_id, RunRow.lease_holder, RunRow.lease_expiry).where(
        RunRow.lease_holder > ""
    )
    moment = time.time()
    for pk, run_id, holder, expiry in session.execute(held):
        if holder and is_live(holder, expiry, moment):
            yield LiveRun(pk, run_id, holder)


def busy(run: RunRow) -> RunBusy:
    """Who holds it, in words."""
    if run.lease_holder is None:
        return RunBusy(f"run {run.run_id} is not held by this process: begin it before committing to it")
    ago = max(0.0, time.time() - (run.lease_heartbeat or 0.0))
    return RunBusy(
        f"run {run.run_id} is held by {describe(run.lease_holder)} (last sign of life {ago:.0f} s ago); "
        "wait until it ends or use another run id"
    )


def not_found(run_id: str) -> RunNotFound:
    """What to do, in words."""
    return RunNotFound(f"no run {run_id} in the memory bank; `legion runs` lists those there are")


def finite(value: float, what: str) -> float:
    """A plain float: SQLite keeps numpy's as bytes and NaN as nothing. Raises ModelError if not finite."""
    if not math.isfinite(value):
        raise ModelError(f"the {what} is {value}, not a number that can be compared; the model failed")
    return float(value)


def now() -> str:
    """UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")

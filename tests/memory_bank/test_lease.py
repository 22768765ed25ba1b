"""Two processes on one run: only one works. Two processes on two runs: both do."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bank_samples import BEGIN
from databases import Place

from contracts.errors import MemoryBankError, RunBusy
from memory_bank import SqlMemoryBank, open_memory_bank
from memory_bank.database import Database
from memory_bank.lease import is_live, process_alive

Fill = Callable[[SqlMemoryBank, str, int], None]

HOLD = f"""
import sys
from memory_bank import open_memory_bank
bank = open_memory_bank()
with bank.begin("run", **{BEGIN!r}):
    bank.open_round("run", 1, "p", 1)
    print("held", flush=True)
    sys.stdin.readline()
"""

WRITE = f"""
import sys
import numpy as np
from contracts.records import Verdict
from memory_bank import open_memory_bank
bank = open_memory_bank()
name = sys.argv[1]
with bank.begin(name, **{BEGIN!r}):
    for index in range(1, int(sys.argv[2]) + 1):
        bank.open_round(name, index, "p", index)
        bank.commit_image(name, index, np.full((8, 8, 3), index, np.uint8), 0.1)
        bank.commit_verdict(name, index, Verdict(True, ""))
    bank.finish(name, "finished")
"""


@contextmanager
def holder() -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the run "run" until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin and process.stdout
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


def test_a_run_held_by_a_living_process_is_busy_until_it_ends(bank: SqlMemoryBank) -> None:
    with holder() as process:
        with pytest.raises(RunBusy) as caught, bank.begin("run", **BEGIN):
            pytest.fail("began a run that another process holds")
        assert f"process {process.pid} on this machine" in str(caught.value)
        assert "another run id" in str(caught.value) and "\n" not in str(caught.value)
        with pytest.raises(RunBusy):
            bank.open_round("run", 2, "p", 1)
        assert bank.load("run").status == "running"
    with bank.begin("run", **BEGIN) as run:
        assert len(run.rounds) == 1


def test_a_killed_holder_is_taken_over_at_once(bank: SqlMemoryBank, fill: Fill) -> None:
    with holder() as process:
        os.kill(process.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while process_alive(process.pid) and time.monotonic() < deadline:  # not collected: still a zombie
            time.sleep(0.01)
        assert bank.load("run").status == "interrupted"
        with bank.begin("run", **BEGIN) as run:
            assert len(run.rounds) == 1 and run.status == "running"
            fill(bank, "run", 2)
    assert len(bank.load("run").rounds) == 2


def test_the_same_process_cannot_begin_twice(bank: SqlMemoryBank) -> None:
    other = open_memory_bank()
    with bank.begin("run", **BEGIN):
        with pytest.raises(RunBusy), other.begin("run", **BEGIN):
            pytest.fail("began twice")
        other.open_round("run", 1, "p", 1)  # a second bank of the holding process may commit
    other.close()


def test_many_runs_are_held_at_once_and_renewed(place: Place) -> None:
    bank = SqlMemoryBank(lease_seconds=3.0)  # shorter, and a busy machine does not renew it in time
    with bank.begin("a", **BEGIN), bank.begin("b", **BEGIN):
        time.sleep(4.0)  # longer than a lease lasts
        assert [run.status for run in bank.runs()] == ["running", "running"]
        for name in ("a", "b"):
            with pytest.raises(RunBusy), bank.begin(name, **BEGIN):
                pytest.fail("lease was not renewed")
    bank.close()


def rewrite_lease(place: Place, holder: str, expiry: float) -> None:
    place.execute("UPDATE runs SET lease_holder = :holder, lease_expiry = :at", holder=holder, at=expiry)


def test_a_holder_that_lost_its_lease_cannot_commit(bank: SqlMemoryBank, place: Place) -> None:
    with pytest.raises(RunBusy, match="process 12 on elsewhere"), bank.begin("run", **BEGIN):
        rewrite_lease(place, "elsewhere:12:x", time.time() + 60)
        bank.open_round("run", 1, "p", 1)
    assert bank.load("run").status == "running"  # it belongs to the new holder now: not marked, not released
    with pytest.raises(RunBusy), bank.begin("run", **BEGIN):
        pytest.fail("took a lease that is live elsewhere")
    rewrite_lease(place, "elsewhere:12:x", time.time() - 1)
    with bank.begin("run", **BEGIN) as run:
        assert run.rounds == ()


def test_who_is_live() -> None:
    host, now = socket.gethostname(), 1000.0
    parent = os.getppid()
    assert is_live(f"{host}:{parent}:x", now + 1, now)
    assert not is_live(f"{host}:{parent}:x", now, now)
    assert not is_live(f"{host}:{os.getpid()}:from an earlier life", now + 1, now)
    assert not is_live(f"{host}:{2**22 + 5}:x", now + 1, now)  # above the largest process number
    assert is_live("elsewhere:1:x", now + 1, now)
    assert not is_live(None, None, now)


@pytest.mark.parametrize(
    ("processes", "rounds"), [(3, 12), pytest.param(8, 50, marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_processes_on_different_runs_do_not_disturb_each_other(
    bank: SqlMemoryBank, place: Place, processes: int, rounds: int
) -> None:
    place.clear()  # they race to make the tables, too
    names = [f"run-{number}" for number in range(processes)]
    started = [
        subprocess.Popen([sys.executable, "-c", WRITE, name, str(rounds)], stderr=subprocess.PIPE, text=True)
        for name in names
    ]
    assert [process.communicate(timeout=300)[1] for process in started] == [""] * processes
    runs = bank.runs()
    assert sorted(run.run_id for run in runs) == names
    assert all(run.status == "finished" and len(run.rounds) == rounds for run in runs)


def test_a_writer_waits_for_a_lock(bank: SqlMemoryBank, place: Place) -> None:
    began = threading.Event()

    def hold() -> None:
        with place.locked():
            began.set()
            time.sleep(0.5)

    blocker = threading.Thread(target=hold)
    blocker.start()
    began.wait()
    with bank.begin("run", **BEGIN) as run:
        assert run.status == "running" and not blocker.is_alive()
    blocker.join()


def test_a_lock_that_never_goes_is_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory_bank.database.LOCK_SECONDS", 0.2)
    bank = open_memory_bank()
    with place.locked():
        with pytest.raises(MemoryBankError, match="stayed locked too long"), bank.begin("run", **BEGIN):
            pytest.fail("wrote through a lock")
    bank.close()


@pytest.mark.parametrize("seconds", [0.5, 60.0], ids=["for a moment", "for good"])
def test_a_new_file_that_another_has_open_is_waited_for(
    home: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr("memory_bank.database.LOCK_SECONDS", 2.0)
    home.mkdir()
    other = sqlite3.connect(home / "memory_bank.sqlite3", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE theirs (id)")
    other.execute("BEGIN")
    other.execute("SELECT * FROM theirs").fetchall()
    timer = threading.Timer(seconds, other.rollback)
    timer.start()
    try:
        if seconds > 2.0:
            with pytest.raises(MemoryBankError, match="stayed locked too long"):
                open_memory_bank()
        else:
            open_memory_bank().close()
            assert not timer.is_alive()
    finally:
        timer.cancel()
        other.close()


def test_two_that_change_a_new_file_to_wal_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite then refuses one of them without waiting: a moment that cannot be brought about."""
    use_wal, refused = Database._use_wal, [sqlite3.OperationalError("database is locked")] * 3

    def other_was_first(database: Database) -> None:
        if refused:
            raise refused.pop()
        use_wal(database)

    monkeypatch.setattr(Database, "_use_wal", other_was_first)
    open_memory_bank().close()
    assert not refused

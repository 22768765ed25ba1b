"""Accepted runs on disk: what was accepted is done, whatever happens to the process in between.

One SQLite file beside the memory bank. A row is written before the program hears "accepted"; a program that
repeats its request under the same idempotency key gets the same row.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from contracts.errors import LegionError

State: TypeAlias = Literal["queued", "running", "finished", "failed", "cancelled"]
STATES: tuple[State, ...] = get_args(State)
OPEN: tuple[State, ...] = ("queued", "running")

_TABLES = """
CREATE TABLE IF NOT EXISTS submissions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL UNIQUE,
    key TEXT UNIQUE,
    request TEXT NOT NULL,
    kind TEXT NOT NULL,
    job TEXT NOT NULL,
    shared TEXT NOT NULL,
    state TEXT NOT NULL,
    alone INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    submitted REAL NOT NULL,
    ended REAL
);
CREATE INDEX IF NOT EXISTS submissions_by_state ON submissions (state, number);
"""


class QueueFull(LegionError):
    """As many runs wait as may wait."""


class KeyReused(LegionError):
    """An idempotency key came back with another request."""


@dataclass(frozen=True)
class Submission:
    """One accepted run."""

    number: int
    run_id: str
    kind: str
    job: Mapping[str, Any]
    """The job's parameters, with this run as its only case."""
    state: State
    error: str
    submitted: float
    """Seconds since 1970, and so below."""
    ended: float | None


class SubmissionQueue:
    """The queue's file. May be shared by the threads of a process."""

    def __init__(self, path: Path, limit: int) -> None:
        """At most `limit` runs wait. What a process that ended was working on waits again. Raises LegionError
        if the file cannot be used or another process works on it."""
        self._limit, self._lock = limit, threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._alone = _only_process(path.with_suffix(".lock"))
            self._file = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._file.row_factory = sqlite3.Row
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")
            self._file.executescript(_TABLES)
            self._file.execute("UPDATE submissions SET state = 'queued' WHERE state = 'running'")
        except (OSError, sqlite3.Error) as error:
            raise LegionError(f"the queue {path} cannot be used ({error}): make it writable") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()
            self._alone.close()

    def submit(
        self,
        kind: str,
        make_job: Callable[[], tuple[str, Mapping[str, Any]]],
        request: str,
        key: str | None,
    ) -> tuple[Submission, bool]:
        """Accept a run, or find the one accepted under the same key; and whether it is new.

        `make_job` gives a run id and the parameters of a job; `request` is a digest of what was asked for.
        Raises KeyReused if the key stood for another request, QueueFull.
        """
        with self._lock, self._file:
            self._file.execute("BEGIN IMMEDIATE")
            if key is not None and (row := self._one("key = ?", key)) is not None:
                if row["request"] != request:
                    raise KeyReused("this Idempotency-Key stood for another request: use a new one")
                return _submission(row), False
            if self._count("queued") >= self._limit:
                raise QueueFull(f"{self._limit} runs are waiting")
            run_id, job = make_job()
            while self._one("run_id = ?", run_id) is not None:
                run_id, job = make_job()
            self._file.execute(
                "INSERT INTO submissions (run_id, key, request, kind, job, shared, state, submitted) "
                "VALUES (?, ?, ?, ?, ?, ?, 'queued', ?)",
                (run_id, key, request, kind, json.dumps(job), _shared(job), time.time()),
            )
            row = self._one("run_id = ?", run_id)
            assert row is not None
            return _submission(row), True

    def get(self, run_id: str) -> Submission | None:
        """The submission; None if there is none."""
        with self._lock:
            row = self._one("run_id = ?", run_id)
        return None if row is None else _submission(row)

    def latest(self, limit: int, state: State | None = None, before: int | None = None) -> list[Submission]:
        """Submissions, newest first, of one state or of all; `before` is the number to go on from."""
        query = "SELECT * FROM submissions WHERE (? IS NULL OR state = ?) AND (? IS NULL OR number < ?) "
        with self._lock:
            rows = self._file.execute(
                query + "ORDER BY number DESC LIMIT ?", (state, state, before, before, limit)
            ).fetchall()
        return [_submission(row) for row in rows]

    def position(self, submission: Submission) -> int:
        """How many runs wait before this one."""
        query = "SELECT count(*) FROM submissions WHERE state = 'queued' AND number < ?"
        with self._lock:
            return int(self._file.execute(query, (submission.number,)).fetchone()[0])

    def counts(self) -> dict[str, int]:
        """How many runs are queued, and how many running."""
        with self._lock:
            return {state: self._count(state) for state in OPEN}

    def take(self, most: int) -> list[Submission]:
        """The oldest waiting run, and up to `most` in all that can be worked on together with it: of the same
        kind and settings. They count as running from now on."""
        with self._lock, self._file:
            self._file.execute("BEGIN IMMEDIATE")
            first = self._one("state = 'queued' ORDER BY number LIMIT 1")
            if first is None:
                return []
            rows = [first]
            if not first["alone"]:
                rows = self._file.execute(
                    "SELECT * FROM submissions WHERE state = 'queued' AND kind = ? AND shared = ? "
                    "AND NOT alone ORDER BY number LIMIT ?",
                    (first["kind"], first["shared"], max(1, most)),
                ).fetchall()
            self._set([row["run_id"] for row in rows], "running")
            return [_submission(row) for row in rows]

    def put_back(self, run_ids: Sequence[str], alone: bool = False) -> None:
        """Let running runs wait again, in their old places; `alone` keeps them out of batches."""
        with self._lock, self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._set(run_ids, "queued")
            if alone:
                self._file.executemany(
                    "UPDATE submissions SET alone = 1 WHERE run_id = ?", [(run_id,) for run_id in run_ids]
                )

    def end(self, run_ids: Sequence[str], state: State, error: str = "") -> None:
        """Say how running runs ended."""
        with self._lock, self._file:
            self._file.execute("BEGIN IMMEDIATE")
            self._set(run_ids, state, error, time.time())

    def cancel_waiting(self, run_id: str) -> bool:
        """Cancel a run that waits; False if it does not wait (any more)."""
        return self._move(run_id, "state = 'queued'", "cancelled", time.time())

    def resume(self, run_id: str) -> bool:
        """Let a cancelled or failed run wait again; False if it is neither. Raises QueueFull."""
        with self._lock:
            full = self._count("queued") >= self._limit
        if full:
            raise QueueFull(f"{self._limit} runs are waiting")
        return self._move(run_id, "state IN ('cancelled', 'failed')", "queued", None)

    def _move(self, run_id: str, condition: str, state: State, ended: float | None) -> bool:
        with self._lock:
            changed = self._file.execute(
                f"UPDATE submissions SET state = ?, ended = ?, error = '' WHERE run_id = ? AND {condition}",
                (state, ended, run_id),
            )
        return changed.rowcount == 1

    def _one(self, condition: str, *values: object) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._file.execute(
            f"SELECT * FROM submissions WHERE {condition}", values
        ).fetchone()
        return row

    def _count(self, state: State) -> int:
        query = "SELECT count(*) FROM submissions WHERE state = ?"
        return int(self._file.execute(query, (state,)).fetchone()[0])

    def _set(self, run_ids: Sequence[str], state: State, error: str = "", ended: float | None = None) -> None:
        self._file.executemany(
            "UPDATE submissions SET state = ?, error = ?, ended = ? WHERE run_id = ?",
            [(state, error, ended, run_id) for run_id in run_ids],
        )


def _only_process(path: Path) -> sqlite3.Connection:
    """Hold a lock that the system takes away when the process ends, on every system alike. Raises LegionError
    if another process has it."""
    lock = sqlite3.connect(path, timeout=0, check_same_thread=False, isolation_level=None)
    try:
        lock.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError as error:
        lock.close()
        if "locked" not in str(error):
            raise
        raise LegionError(
            f"another server works on the queue in {path.parent}: stop it, or use another LEGION_HOME"
        ) from error
    return lock


def _shared(job: Mapping[str, Any]) -> str:
    """The job without its cases: equal for runs that can be worked on together."""
    return json.dumps({key: value for key, value in job.items() if key != "cases"}, sort_keys=True)


def _submission(row: sqlite3.Row) -> Submission:
    return Submission(
        row["number"],
        row["run_id"],
        row["kind"],
        json.loads(row["job"]),
        row["state"],
        row["error"],
        row["submitted"],
        row["ended"],
    )

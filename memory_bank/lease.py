"""Who holds a run, and is that process still alive?

A holder is written as `host:pid:uuid`. It renews its lease from a background thread; a lease that was not
renewed in time may be taken over, and one whose process is gone from this machine may be taken over at once.
Expiry compares the clocks of machines, which should agree within a few seconds. A process that slept through
its expiry and lost the run notices at its next commit, because every commit checks in its own transaction
that the lease is still its own.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

LEASE_SECONDS = 30.0
AHEAD_SECONDS = 300.0
"""A lease that ends later than this was taken before a clock was turned back, and is worth nothing: who still
lives renews it within seconds."""

_held: set[str] = set()
"""Holders of this process, shared by its memory banks: each may commit to a run that one of them holds."""


def new_holder() -> str:
    """A holder that no other begin, on any machine, shares."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex}"


def is_ours(holder: str | None) -> bool:
    """Whether this process took that lease and still has it open."""
    return holder is not None and holder in _held and _parts(holder)[1] == os.getpid()


def is_live(holder: str | None, expiry: float | None, now: float) -> bool:
    """Whether the lease still binds others. Times in seconds since 1970."""
    if holder is None or expiry is None or expiry <= now:
        return False
    host, pid = _parts(holder)
    if host != socket.gethostname():
        return expiry <= now + AHEAD_SECONDS
    if pid == os.getpid():
        return holder in _held  # else an earlier process had our number, as after a restart
    return process_alive(pid)


def describe(holder: str) -> str:
    """The holder for a message to a person."""
    host, pid = _parts(holder)
    return f"process {pid} on {'this machine' if host == socket.gethostname() else host}"


def process_alive(pid: int) -> bool:
    """Whether a process of this machine still runs; where that cannot be told, True."""
    if os.name != "posix":
        return True  # on Windows signal 0 is not a question
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in "ZX"  # killed, but not yet collected by its parent


class LeaseKeeper:
    """Renews all leases of one memory bank from one thread, which lives only while something is held."""

    def __init__(self, renew: Callable[[Collection[str]], None], interval: float) -> None:
        """`renew` is called every `interval` seconds with the holders; it must not raise."""
        self._renew = renew
        self._interval = interval
        self._mine: set[str] = set()
        self._lock = threading.Lock()
        self._stop: threading.Event | None = None

    def hold(self, holder: str) -> None:
        """Count the lease as ours and begin to renew it."""
        with self._lock:
            _held.add(holder)
            self._mine.add(holder)
            if self._stop is None:
                self._stop = threading.Event()
                threading.Thread(
                    target=self._run, args=(self._stop,), name="memory-bank-lease", daemon=True
                ).start()

    def drop(self, holder: str) -> None:
        """Stop renewing it."""
        with self._lock:
            _held.discard(holder)
            self._mine.discard(holder)
            if not self._mine and self._stop is not None:
                self._stop.set()
                self._stop = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(self._interval):
            with self._lock:
                holders = frozenset(self._mine)
            if holders:
                self._renew(holders)


def _parts(holder: str) -> tuple[str, int]:
    host, pid, _ = holder.rsplit(":", 2)
    return host, int(pid)

"""A server that failed for good is left alone for a while, so that not everybody waits for it anew."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

SHARE = 10.0
"""Times as long as it took to find out: at most a tenth of a long run goes into waiting for nothing."""
LEAST_REST = 60.0
"""Seconds."""


class Outage:
    """What is known of one server's failing. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is known yet."""
        self._clock, self._lock = clock, threading.Lock()
        self._until, self._why, self._told = float("-inf"), "", False

    def why(self) -> str:
        """Why the server is not to be asked now; empty if it may be."""
        with self._lock:
            return self._why if self._clock() < self._until else ""

    def begin(self, why: str, waited: float) -> float:
        """It failed for good after so many seconds. Returns how many seconds it is left alone; 0 if another
        thread has said so already."""
        rest = max(LEAST_REST, SHARE * waited)
        with self._lock:
            if self._clock() < self._until:
                return 0.0
            self._until, self._why, self._told = self._clock() + rest, why, False
        return rest

    def end(self) -> None:
        """It answers."""
        with self._lock:
            self._until, self._why, self._told = float("-inf"), "", False

    def first_sign(self) -> bool:
        """Is this the first attempt that failed since it last answered or failed for good?"""
        with self._lock:
            told, self._told = self._told, True
            return not told

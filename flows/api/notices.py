"""What happened to each run since this process began, for those who listen. Bounded in memory."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KEPT_RUNS = 1000
KEPT_EACH = 500


@dataclass(frozen=True)
class Notice:
    """One thing that happened: a number that grows with each notice of a run, a name and plain values."""

    number: int
    name: str
    data: Mapping[str, Any]


class Notices:
    """The latest notices of the latest runs."""

    def __init__(self, runs: int = KEPT_RUNS, each: int = KEPT_EACH) -> None:
        self.epoch = secrets.token_hex(4)
        """Numbers of another process mean nothing here."""
        self._most, self._each, self._lock = runs, each, threading.Lock()
        self._runs: OrderedDict[str, deque[Notice]] = OrderedDict()

    def add(self, run_id: str, name: str, **data: Any) -> None:
        """Say that something happened to a run."""
        with self._lock:
            kept = self._runs.setdefault(run_id, deque(maxlen=self._each))
            kept.append(Notice(kept[-1].number + 1 if kept else 1, name, data))
            self._runs.move_to_end(run_id)
            while len(self._runs) > self._most:
                self._runs.popitem(last=False)

    def after(self, run_id: str, number: int) -> list[Notice]:
        """What happened to a run after that number, as far as it is kept."""
        with self._lock:
            return [notice for notice in self._runs.get(run_id, ()) if notice.number > number]

"""Pipelines in memory: each is loaded once, and the least recently used go first where memory runs short."""

from __future__ import annotations

import gc
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch

log = logging.getLogger(__name__)


@dataclass
class _Held:
    pipeline: Any
    views: dict[str, Any] = field(default_factory=dict)


class Shelf:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self.loads: Counter[Hashable] = Counter()
        """How often each pipeline was loaded from disk."""
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, load: Callable[[], Any]) -> Any:
        """The pipeline of that key, loaded if it is not here. What was not used for longest makes room if
        there is none; raises what `load` raises if that does not help."""
        return self._hold(key, load).pipeline

    def view(self, key: Hashable, load: Callable[[], Any], name: str, make: Callable[[Any], Any]) -> Any:
        """Another pipeline over the same weights, kept and put away with them."""
        with self._lock:
            held = self._hold(key, load)
            if name not in held.views:
                held.views[name] = make(held.pipeline)
            return held.views[name]

    def put_away_others(self, key: Hashable) -> bool:
        """Free what all other pipelines hold; false if there is none. They are loaded again when used."""
        with self._lock:
            others = [other for other in self._held if other != key]
            for other in others:
                del self._held[other]
            free_memory()
            return bool(others)

    def _hold(self, key: Hashable, load: Callable[[], Any]) -> _Held:
        with self._lock:
            while key not in self._held:
                try:
                    self._held[key] = _Held(load())
                    self.loads[key] += 1
                except Exception as error:
                    if not out_of_memory(error) or not self._held:
                        raise
                    self._put_away_oldest()
            self._held.move_to_end(key)
            return self._held[key]

    def _put_away_oldest(self) -> None:
        key, _ = self._held.popitem(last=False)
        log.warning("memory is short: a model that was not used for longest is put away (%s)", key)
        free_memory()


def out_of_memory(error: BaseException | None) -> bool:
    """Is it, or was it caused by, a failed allocation on any device?"""
    while error is not None:
        said = str(error).lower()
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said):
            return True
        error = error.__cause__
    return False


def free_memory() -> None:
    """Give back what no pipeline holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()

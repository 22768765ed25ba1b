"""Models in memory: each is loaded once, and the least recently used go first where memory runs short.

Pipelines, defenders and scorers lie on one shelf, so that each makes room for any other.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from contracts.memory import out_of_memory
from contracts.protocols import Defender, Scorer
from contracts.records import Diagnosis, Image, Score

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass
class _Held:
    pipeline: Any
    views: dict[str, Any] = field(default_factory=dict)


class Shelf:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self.loads: Counter[Hashable] = Counter()
        """How often each model was loaded from disk."""
        self.eased: dict[Hashable, Any] = {}
        """What a shortage taught about loading a model so that it needs less memory; outlives its stay."""
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
        """Free what all other models hold; false if there is none. They are loaded again when used."""
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


class _Shelved:
    """A tool that lies on a shelf: put away where others need the memory, loaded again when it is used."""

    def __init__(
        self,
        shelf: Shelf,
        key: Hashable,
        load: Callable[[], Any],
        view: str = "",
        make: Callable[[Any], Any] = lambda tool: tool,
    ) -> None:
        """Loads it, so that what is missing is said at once. `make` makes the tool of what lies on the shelf,
        once for all that ask for a view of this name."""
        self._shelf, self._key, self._load, self._view, self._make = shelf, key, load, view, make
        tool = self._tool()
        self.name: str = tool.name
        self._described = dict(tool.describe())

    def describe(self) -> Mapping[str, object]:
        """As the tool's own; asking for it loads nothing."""
        return dict(self._described)

    def _tool(self) -> Any:
        return self._shelf.view(self._key, self._load, self._view, self._make)

    def _work(self, call: Callable[[Any], list[T]]) -> list[T]:
        """What does not fit beside other models is tried once more without them."""
        try:
            return call(self._tool())
        except Exception as error:
            if not out_of_memory(error) or not self._shelf.put_away_others(self._key):
                raise
        log.warning("%s does not fit into memory beside other models: they are put away", self.name)
        return call(self._tool())


class ShelvedDefender(_Shelved):
    """A Defender from a shelf."""

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        """As the defender's own."""

        def look(defender: Defender) -> list[Diagnosis]:
            return defender.diagnose(images)

        return self._work(look)


class ShelvedScorer(_Shelved):
    """A Scorer from a shelf."""

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        """As the scorer's own."""

        def ask(scorer: Scorer) -> list[Score]:
            return scorer.score(images, prompts)

        return self._work(ask)


def free_memory() -> None:
    """Give back what no model holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()

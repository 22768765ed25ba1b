"""How many pictures go into one model call: as many as fit, found by measuring, fewer where memory runs out.

Where one picture alone does not fit, reliefs are tried in order (other models are put away, weights move to
main memory, the autoencoder works in tiles), and only then it is an error. What was committed before stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from contracts.errors import ModelError
from contracts.memory import out_of_memory
from contracts.records import Image
from controller.generators.shelf import free_memory

log = logging.getLogger(__name__)
R = TypeVar("R")

SHARE_TO_FILL = 0.8
"""Of the memory that is free; the rest is for what a larger batch takes beyond its share."""


@dataclass(frozen=True)
class Relief:
    """One way to need less memory: what it is called, and how to do it; false if there is nothing to do."""

    name: str
    apply: Callable[[], bool]


@dataclass(frozen=True)
class Probe:
    """What a device says about its memory, in bytes."""

    start: Callable[[], None]
    """Begin to watch the peak."""
    taken: Callable[[], int]
    """The peak since then, above what was in use before."""
    free: Callable[[], int]


def probe_for(device: str) -> Probe | None:
    """The probe of a CUDA device; None for others, which do not tell."""
    if torch.device(device).type != "cuda":
        return None
    before = 0

    def start() -> None:
        nonlocal before
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)

    def taken() -> int:
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device)) - before

    return Probe(start, taken, lambda: int(torch.cuda.mem_get_info(device)[0]))


class Batching:
    """Paints lists of requests in calls of a size that it learns."""

    def __init__(
        self, name: str, most: int, reliefs: Sequence[Relief] = (), probe: Probe | None = None
    ) -> None:
        """`most` pictures per call at most; `probe` tells how many fit, without one `most` is tried first."""
        self.name, self.most = name, most
        self.sizes: dict[Hashable, int] = {}
        """Pictures per call, learned for each kind of request."""
        self._reliefs, self._probe = list(reliefs), probe

    def paint(
        self,
        requests: Sequence[R],
        kind: Callable[[R], Hashable],
        call: Callable[[list[R]], list[Image]],
    ) -> list[Image]:
        """Requests of one kind are painted together; the pictures come in the requests' order.

        Raises ModelError if one picture alone does not fit, and what `call` raises otherwise.
        """
        groups: dict[Hashable, list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(kind(request), []).append(i)
        images: dict[int, Image] = {}
        for name, group in groups.items():
            while group:
                batch = group[: self._size(name)]
                painted = self._try(name, [requests[i] for i in batch], call)
                images.update(zip(batch, painted, strict=False))
                group = group[len(painted) :]
        return [images[i] for i in range(len(requests))]

    def _size(self, kind: Hashable) -> int:
        """One picture first, where that tells how many fit."""
        return self.sizes.get(kind, 1 if self._probe else self.most)

    def _try(self, kind: Hashable, batch: list[R], call: Callable[[list[R]], list[Image]]) -> list[Image]:
        """Pictures of the batch, or of as much of its beginning as fits."""
        while True:
            measure = self._probe if kind not in self.sizes else None
            try:
                if measure:
                    measure.start()
                images = call(batch)
                if measure:
                    self.sizes[kind] = self._fitting(measure)
                return images
            except Exception as error:
                if not out_of_memory(error):
                    raise
            # Outside the handler: as long as the error lives, its frames hold what should be freed.
            batch = self._smaller(kind, batch)

    def _fitting(self, probe: Probe) -> int:
        fitting = 1 + int(max(0, probe.free()) * SHARE_TO_FILL) // max(1, probe.taken())
        return max(1, min(self.most, fitting))

    def _smaller(self, kind: Hashable, batch: list[R]) -> list[R]:
        """The next thing to try after a call that ran out of memory. Raises ModelError if nothing is left."""
        free_memory()
        if len(batch) > 1:
            self.sizes[kind] = len(batch) // 2
            log.warning(
                "%s: %d pictures at once do not fit into memory, trying %d",
                self.name,
                len(batch),
                len(batch) // 2,
            )
            return batch[: len(batch) // 2]
        while self._reliefs:
            relief = self._reliefs.pop(0)
            if relief.apply():
                log.warning(
                    "%s: one picture does not fit into memory, trying with %s", self.name, relief.name
                )
                return batch
        raise ModelError(
            f"{self.name} does not fit into memory even for one picture: choose a smaller picture or model, "
            "or, on a GPU, set quantize = '4bit' in the profile; what is done is kept"
        )

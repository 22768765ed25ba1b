"""One user at a time for a GPU that several processes share: a global concurrency limit `gpu:NAME`.

The name comes from LEGION_GPU, which each process that uses the GPU is started with; without it nothing is
limited. A slot is held for a round of a loop, or for one call of a worker; handing it over takes up to two
seconds, which is too long for each short step. Its lease is short: after a kill the slot is free again within
a minute.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists

from contracts.errors import InvalidInput
from controller.steps import Event, StepStarted
from flows.tools import with_workers

GPU_VARIABLE = "LEGION_GPU"
LEASE_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9._-]{1,60}")


def gpu_slot(name: str | None = None) -> Callable[[], AbstractContextManager[object]]:
    """Holds the GPU's slot while it is entered; nothing without a name. Raises InvalidInput for one that
    cannot be used."""
    chosen = os.environ.get(GPU_VARIABLE, "") if name is None else name
    if not chosen:
        return nullcontext
    if not _NAME.fullmatch(chosen):
        raise InvalidInput(
            f"the GPU name {chosen!r} cannot be used: write letters, digits, '.', '-' or '_', as in box1-gpu0"
        )
    limit = f"gpu:{chosen}"
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):  # made by another this moment
        client.upsert_global_concurrency_limit_by_name(limit, 1)

    @contextmanager
    def held() -> Iterator[None]:
        # A lease that cannot be renewed does not end the work: its result is kept once, whoever else paints.
        with concurrency(limit, occupy=1, lease_duration=LEASE_SECONDS, raise_on_lease_renewal_failure=False):
            yield

    return held


def round_slot() -> RoundSlot:
    """For a loop in this process: its GPU's slot if it has a name, none where workers do the models' work.
    Raises InvalidInput."""
    return RoundSlot(nullcontext if with_workers() else gpu_slot())


class RoundSlot:
    """Holds a slot for each round of a loop: taken at the round's first step, handed over after its last."""

    def __init__(self, slot: Callable[[], AbstractContextManager[object]]) -> None:
        self._slot, self._held, self._round = slot, ExitStack(), 0

    def listen(self, event: Event) -> None:
        """Take the events of one loop."""
        if isinstance(event, StepStarted) and event.round != self._round:
            self.release()
            self._held.enter_context(self._slot())
            self._round = event.round

    def release(self) -> None:
        """Let others use the GPU: while a person is asked, and at the end. The next step takes it again."""
        self._held.close()
        self._round = 0

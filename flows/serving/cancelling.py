"""A run that is cancelled on Prefect's page: at its next step it ends as after Ctrl-C, and can be taken up
again.

What a deployment starts is ended by the process that serves it. Nobody watches over what a terminal started,
so such a run looks at its own state.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.states import Cancelled

from contracts.errors import LegionError


class RunCancelled(LegionError):
    """Somebody cancelled the flow run that runs here."""

    def __init__(self) -> None:
        super().__init__("cancelled on Prefect's page: what is finished is kept")


class Cancelling:
    """Whether the flow run that runs here was cancelled, where nobody else looks after that."""

    def __init__(self, watch: Callable[[Callable[[SyncPrefectClient], None]], None]) -> None:
        """`watch` has it look now and then, unless another process ends this one if the run is cancelled."""
        self._flow_run = flow_run_here()
        self._seen = threading.Event()
        if self._flow_run is not None and self._flow_run.deployment_id is None:
            watch(self.look)

    def look(self, client: SyncPrefectClient) -> None:
        """Ask the server; nothing is cancelled while it does not answer."""
        with suppress(Exception):
            state = client.read_flow_run(self._flow_run.id).state if self._flow_run is not None else None
            if state is not None and (state.is_cancelling() or state.is_cancelled()):
                self._seen.set()

    def check(self) -> None:
        """Raises RunCancelled if that was seen."""
        if self._seen.is_set():
            raise RunCancelled

    def tell_tasks(self) -> None:
        """From here on `check_task` asks this one, in the flow's tasks in this process."""
        _of_flow.set(self)


_of_flow: ContextVar[Cancelling | None] = ContextVar("cancelling", default=None)


def check_task() -> None:
    """In a task: raises RunCancelled if that was seen of its flow. A task in another process never does."""
    cancelling = _of_flow.get()
    if cancelling is not None:
        cancelling.check()


def say_cancelled(flow: Any, flow_run: FlowRun, state: Any) -> None:  # names that Prefect asks for
    """A flow's hook: Prefect lets a run that is being cancelled end in no other state, so say that one."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, Cancelled())


def flow_run_here() -> FlowRun | None:
    """The flow run that runs here."""
    context = FlowRunContext.get()
    run = None if context is None else context.flow_run
    return run if isinstance(run, FlowRun) else None

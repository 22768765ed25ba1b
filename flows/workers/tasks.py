"""The calls as Prefect background tasks: its server carries each to a worker that is free, and shows it.

The task takes no parameters and returns nothing: it finds its question in the exchange, under the id of its
task run. So Prefect's own storage, which would have to be shared too, is not needed.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.client.orchestration import get_client
from prefect.runtime import task_run
from prefect.settings import get_current_settings
from prefect.task_worker import serve

from contracts.errors import LegionError, RemoteError
from flows.workers import calls
from flows.workers.exchange import Exchange
from flows.workers.models import PARTS, perform, tool_of

RESULTS_VARIABLE = "PREFECT_LOCAL_STORAGE_PATH"
"""Where Prefect keeps results; a worker has a folder of its own for them."""

Slot = Callable[[], AbstractContextManager[object]]


def ask_workers(profile: str, exchange: Exchange) -> Callable[..., Any]:
    """What the tools of `flows.workers.tools` ask. Raises LegionError without a server that stays."""
    check_server()
    patience = calls.patience()

    def ask(part: str, method: str, tool: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
        announced = task_for(profile, part)

        def announce() -> str:
            try:
                return str(announced.delay().task_run_id)
            except Exception as error:  # Prefect's own, its HTTP client's, the operating system's
                raise RemoteError(_unreachable(error)) from error

        return calls.ask(exchange, announce, part, method, tool, arguments, patience)

    return ask


def serve_models(profile: str, parts: Sequence[str] = PARTS, slot: Slot = nullcontext) -> None:
    """Work as a worker until the process is ended. `slot` is held during each call.

    One call at a time: a model has the whole GPU, and free workers get the next. Raises LegionError without a
    server that stays.
    """
    check_server()
    exchange = Exchange()
    exchange.sweep()
    worker = f"{socket.gethostname()}:{os.getpid()}"

    def work() -> None:
        def held(question: Mapping[str, Any]) -> Any:
            with slot():
                return perform(profile, question, tool_of)

        _forget_results()
        calls.take(exchange, str(task_run.id), held, worker)

    serve(*(task_for(profile, part, work) for part in parts), limit=1)


def _forget_results() -> None:
    """Remove what Prefect kept of earlier calls, each a small file that says "nothing returned"."""
    if (place := os.environ.get(RESULTS_VARIABLE)) is not None:
        for path in Path(place).glob("*"):
            path.unlink(missing_ok=True)


def task_for(profile: str, part: str, work: Callable[[], None] = lambda: None) -> Task[[], None]:
    """The background task of a part of a profile. `work` matters in a worker alone."""
    named = type(f"{part}@{profile}", (_Work,), {"__module__": "legion"})
    return Task(
        named(work),  # type: ignore[arg-type]
        name=part,
        persist_result=True,  # as the worker will have it anyway
        cache_key_fn=lambda context, _parameters: str(context.task_run.id),
    )


class _Work:
    """A function whose name alone is the task's key. Prefect would make it of the function's code, and that
    of the folder it lies in, which differs between machines."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def __call__(self) -> None:
        self._work()


def check_server() -> None:
    """Raises LegionError unless a Prefect server is named and answers: the temporary one reaches nobody."""
    url = get_current_settings().api.url
    if not url:
        raise LegionError(
            "workers and runs meet at a Prefect server: set PREFECT_API_URL, as in http://server:4200/api"
        )
    with get_client(sync_client=True) as client:
        problem = client.api_healthcheck()
    if problem is not None:
        raise LegionError(_unreachable(problem))


def _unreachable(problem: Exception) -> str:
    cause = " ".join(str(problem).split())[:200] or type(problem).__name__
    return f"Prefect's server at {get_current_settings().api.url} cannot be reached ({cause}): is it running?"

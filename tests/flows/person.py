"""A person at Prefect's page, who does something to a run when it has come so far. On a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

SECONDS = 120.0
"""How long anybody waits."""


class Person(threading.Thread):
    """Does something to the next flow run of that name, once it is in that state."""

    def __init__(self, name: str, state: str, act: Callable[[Any, str], None]) -> None:
        # In this context, which names the server.
        super().__init__(target=copy_context().run, args=(self._live,), daemon=True)
        self._run_name, self._state, self._act = name, state, act
        with server_client() as client:
            self._before = {run.id for run in self._named(client)}
        self.start()

    def _live(self) -> None:
        with server_client() as client:
            end = time.monotonic() + SECONDS
            while (found := self._found(client)) is None or found.state.type.value != self._state:
                assert time.monotonic() < end
                time.sleep(0.05)
            self._act(client, str(found.id))

    def final_state(self) -> str:
        self.join(SECONDS)
        assert not self.is_alive()
        with server_client() as client:
            found = self._found(client)
            assert found is not None
            return found.state.type.value

    def _found(self, client: Any) -> Any:
        new = [run for run in self._named(client) if run.id not in self._before and run.state]
        return new[0] if new else None

    def _named(self, client: Any) -> list[Any]:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

        return client.read_flow_runs(
            flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[self._run_name]))
        )


def server_client() -> Any:
    from prefect.client.orchestration import get_client

    return get_client(sync_client=True)


def cancel(client: Any, flow_run: str) -> None:
    """As the page's button does."""
    body = {"state": {"type": "CANCELLING", "name": "Cancelling"}}
    client.request("POST", f"/flow_runs/{flow_run}/set_state", json=body).raise_for_status()


def answer(client: Any, flow_run: str) -> None:
    """As the page's form does."""
    body = {"run_input": {"decision": "reject", "your_name": "Ada", "note": "too plain"}}
    client.request("POST", f"/flow_runs/{flow_run}/resume", json=body).raise_for_status()

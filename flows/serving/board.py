"""What a run puts on Prefect's pages, sent to the server by a thread of its own.

A run never waits for its pages: of what comes faster than the server takes it, only the newest of each page
is sent. A page that cannot be kept is a warning, for the run itself is safe in the memory bank.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import SyncClientContext

from flows.serving.cancelling import flow_run_here

Kind = Literal["markdown", "table", "progress"]
END_SECONDS = 60.0
"""How long the end of a run waits for a server that does not answer."""
LULL_SECONDS = 0.1
"""Before something is sent: by then the run is in its next step, and a model leaves Python to others."""
LOOK_SECONDS = 2.0
"""Between two looks at the server while nothing is to be sent."""


@dataclass(frozen=True)
class Page:
    """An artifact of Prefect's: its data is Markdown, a percentage, or rows of a table."""

    kind: Kind
    data: str | float | list[dict[str, Any]]
    description: str
    key: str | None = None
    """In lower case letters, digits and dashes; the page without one is seen at its run only."""

    @property
    def kept(self) -> str | float:
        """Its data as Prefect's server keeps it."""
        return json.dumps(self.data) if isinstance(self.data, list) else self.data


class Board:
    """The pages of one flow run. Close it at the run's end."""

    def __init__(self, flow_run: UUID | None, log: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        """`log` hears what could not be kept."""
        self._flow_run, self._log = flow_run, log
        self._waiting: dict[str, Callable[[SyncPrefectClient], None]] = {}
        self._sent: dict[str | None, tuple[str, str | float]] = {}
        self._look: Callable[[SyncPrefectClient], None] | None = None
        self._changed, self._closed = threading.Condition(), False
        # In this context, so that the thread speaks to the server that the flow speaks to.
        self._thread = threading.Thread(target=copy_context().run, args=(self._work,), daemon=True)
        self._thread.start()

    def put(self, name: str, draw: Callable[[], Sequence[Page]]) -> None:
        """Show what `draw` draws, in the board's thread; it replaces what waits there under the same name."""

        def send(client: SyncPrefectClient) -> None:
            for page in draw():
                self._send(client, page)

        self._later(name, send)

    def tag(self, tags: Sequence[str]) -> None:
        """Give the flow run these tags, and only these."""
        self._later("the tags", lambda client: self._send_tags(client, tags))

    def watch(self, look: Callable[[SyncPrefectClient], None]) -> None:
        """Call `look` every LOOK_SECONDS while nothing waits to be sent, in the board's thread."""
        with self._changed:
            self._look = look
            self._changed.notify()

    def end(self) -> None:
        """Nothing more comes: what waits is sent at once, without anybody waiting for it yet."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def close(self) -> None:
        """Wait until all is sent."""
        self.end()
        self._thread.join(END_SECONDS)
        if self._thread.is_alive():
            self._log.warning("Prefect's server did not take the run's pages within %.0f s", END_SECONDS)

    def _later(self, name: str, send: Callable[[SyncPrefectClient], None]) -> None:
        with self._changed:
            self._waiting[name] = send
            self._changed.notify()

    def _next(self) -> tuple[str, Callable[[SyncPrefectClient], None]] | None:
        """What waits longest, or a look at the server; None at the end."""
        with self._changed:
            while not self._waiting and not self._closed:
                if not self._changed.wait(None if self._look is None else LOOK_SECONDS) and self._look:
                    return "the run's state", self._look
            self._changed.wait_for(lambda: self._closed, LULL_SECONDS)
            name = next(iter(self._waiting), None)
            return None if name is None else (name, self._waiting.pop(name))

    def _work(self) -> None:
        waiting = self._next()
        try:
            # A client of its own, for what is drawn, too: the flow's belongs to the flow's thread. It is made
            # when it is needed, as reading the certificates takes as long as creating the run.
            with SyncClientContext() as server:
                while waiting is not None:
                    self._try(*waiting, server.client)
                    waiting = self._next()
        except Exception as error:
            self._log.warning("Prefect's server cannot be reached for the run's pages: %s", error)

    def _try(self, name: str, send: Callable[[SyncPrefectClient], None], client: SyncPrefectClient) -> None:
        try:
            send(client)
        except Exception as error:  # whatever the server has against it
            self._log.warning("Prefect's pages lack %s: %s", name, error)

    def _send(self, client: SyncPrefectClient, page: Page) -> None:
        # The client's own calls would also send a page's data as an event, which nobody reads.
        known, sent = self._sent.get(page.key, (None, None))
        if sent == page.kept:
            return
        if known is not None:
            body: dict[str, Any] = {"data": page.kept}
            client.request("PATCH", "/artifacts/{id}", json=body, path_params={"id": known})
            self._sent[page.key] = known, page.kept
            return
        body = {
            "type": page.kind,
            "key": page.key,
            "data": page.kept,
            "description": page.description,
            "flow_run_id": None if self._flow_run is None else str(self._flow_run),
        }
        made = client.request("POST", "/artifacts/", json=body).json()
        self._sent[page.key] = made["id"], page.kept

    def _send_tags(self, client: SyncPrefectClient, tags: Sequence[str]) -> None:
        if self._flow_run is not None:
            client.update_flow_run(self._flow_run, tags=tags)


def board_here(**labels: str) -> Board:
    """The board of the flow run that runs here, which is tagged `legion` and with the labels, as in
    `kind:benchmark`, besides what it was tagged with before."""
    flow_run = flow_run_here()
    board = Board(None if flow_run is None else flow_run.id, get_run_logger())
    given = () if flow_run is None else flow_run.tags
    board.tag(sorted({*given, "legion", *(f"{name}:{value}" for name, value in labels.items())}))
    return board


def show_progress(board: Board, share: float, title: str) -> None:
    """Move a run's bar to a share, 0..1, in place of where it was to be moved."""
    page = Page("progress", 100.0 * share, title)
    board.put("the progress", lambda: [page])

"""An API server with scripted tools, in this process, and what tests ask of it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import red_squares
import uvicorn
from flow_samples import ScriptedDefender, ScriptedGenerator, ScriptedModifier, ScriptedScorer
from PIL import Image as Pillow
from starlette.testclient import TestClient

from controller.regeneration import RegenerationTools
from flows.api.app import create_app
from flows.api.service import Service, work_with
from flows.api.settings import ApiSettings
from memory_bank import open_memory_bank

TOKEN = "a-token-of-the-tests"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}
PROMPT = {"prompt": "a red cone", "seed": 7, "rounds": 3}
SECONDS = 30.0


def scripted_tools() -> RegenerationTools:
    """Tools without weights."""
    generator = ScriptedGenerator()
    return RegenerationTools(
        generator=generator,
        defender=ScriptedDefender(generator),
        selection_scorer=ScriptedScorer(generator),
        reporting_scorers=(),
        modifier=ScriptedModifier(),
    )


def make_service(folder: Path, tools: RegenerationTools, **settings: Any) -> Service:
    """A server's inside; regeneration with `tools`, inpainting with red squares."""
    bank = open_memory_bank()
    of = {"regeneration": lambda job: tools, "inpainting": lambda job: red_squares.square_tools()}
    return Service(ApiSettings(folder=folder, **settings), bank, work_with(of, bank))


@contextmanager
def client_of(service: Service, **headers: str) -> Iterator[TestClient]:
    """A program that talks to the server, without a network."""
    with TestClient(create_app(service), base_url="http://127.0.0.1", headers=headers) as client:
        yield client


@contextmanager
def listening(service: Service) -> Iterator[str]:
    """The server on a real port; its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        service.runner.stop(0)
        thread.join(SECONDS)


def until(condition: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """Wait until the condition holds, and give what it says."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def ended(client: Any, run_id: str) -> dict[str, Any]:
    """The run, once it has ended."""

    def look() -> Any:
        run = client.get(f"/v1/runs/{run_id}").json()
        return run if run["state"] not in ("queued", "running") else None

    return until(look)


def png(pixels: Any) -> bytes:
    """The bytes of a picture."""
    buffer = io.BytesIO()
    Pillow.fromarray(np.asarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(content: bytes) -> Any:
    """The picture of the bytes."""
    return np.asarray(Pillow.open(io.BytesIO(content)))


class Gate:
    """Holds a generator before each painting until the test lets it go on."""

    def __init__(self, generator: Any) -> None:
        self.reached, self.open = threading.Event(), threading.Event()
        generator.before_painting = self

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(SECONDS)

"""`legion ui`: Prefect's server, the image server and the served forms, started together and ended together.

Prefect's parts are processes of their own, because each wants its main thread; the image server is a thread
of this one. One signal ends all, and if one part dies the others do not stay behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from contracts.errors import LegionError
from flows.serving.image_server import image_app, serving
from flows.serving.places import IMAGE_URL_VARIABLE, PICTURES_VARIABLE, Address, check_free
from flows.settings import PREFECT_DEFAULTS, PREFECT_QUIET

SERVER_SECONDS = 300.0
"""Until a server that was started here answers: a fresh Prefect home makes its database first."""
FORMS_SECONDS = 300.0
ENDING_SECONDS = 15.0
"""What a part gets to end by itself: a run that is under way is told, and keeps what is finished."""
LOOK_SECONDS = 0.5
IMAGE_URL = "legion_image_url"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What is started, and where."""

    prefect: Address
    images: Address
    image_url: str
    """The image server as a browser reaches it."""
    pictures: Path
    """The folder whose pictures a form may name."""
    logs: Path
    server_url: str | None = None
    """A Prefect server that runs already, up to but without /api; None starts one."""
    page_url: str | None = None
    """Prefect's pages as a browser reaches them; None: where this machine reaches the server."""
    verbose: bool = False

    @property
    def api(self) -> str:
        """Prefect's API."""
        return f"{self.server_url or self.prefect.url}/api"

    @property
    def dashboard(self) -> str:
        """Prefect's pages, as a browser reaches them."""
        return self.page_url or self.server_url or self.prefect.url


class Part:
    """One process of the whole, with its log."""

    def __init__(
        self, name: str, command: Sequence[str], environ: Mapping[str, str], log: Path | None
    ) -> None:
        self.name, self._log = name, log
        stream = None if log is None else log.open("wb")
        try:
            # A session of its own: Ctrl-C reaches this process alone, which ends the others in order.
            self._process = subprocess.Popen(
                command, env=dict(environ), stdout=stream, stderr=stream, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        finally:
            if stream is not None:
                stream.close()

    def check(self) -> None:
        """Raises LegionError if the process is gone."""
        code = self._process.poll()
        if code is not None:
            raise LegionError(f"{self.name} ended (exit code {code}){self._last_words()}")

    def end(self) -> None:
        """Tell it to end, wait, and leave nothing of it behind."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()

    def _last_words(self) -> str:
        if self._log is None:
            return ""
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        said = f": {lines[-1].strip()[:200]}" if lines else ""
        return f"{said}; its log is {self._log}"


def run(plan: Plan, say: Say) -> None:
    """Start everything, and return when a signal ends it. Raises LegionError if a part does not start or
    dies."""
    if plan.server_url is None:
        check_free(plan.prefect, "Prefect's server", "--port")
    check_free(plan.images, "the image server", "--image-port")
    plan.logs.mkdir(parents=True, exist_ok=True)
    environ = environment(plan)
    with _signals() as stop, ExitStack() as parts:
        try:
            _start(plan, environ, parts, stop, say)
        except _Stopped:
            pass
        say("ending")


def environment(plan: Plan, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """What the parts are told; a person's own settings of Prefect win, its address excepted."""
    environ = dict(os.environ if base is None else base)
    for name, value in {**PREFECT_DEFAULTS, **({} if plan.verbose else PREFECT_QUIET)}.items():
        environ.setdefault(name, value)
    environ.setdefault("PREFECT_SERVER_UI_V2_ENABLED", "false")  # the pages of docs/ui.md, which tests visit
    environ.setdefault("PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT", "false")
    # The page asks the server that it came from, under whichever name the browser knows it.
    environ.setdefault("PREFECT_SERVER_UI_API_URL", "/api")
    environ["PREFECT_API_URL"] = plan.api
    environ[IMAGE_URL_VARIABLE] = plan.image_url
    environ[PICTURES_VARIABLE] = str(plan.pictures)
    return environ


def _start(plan: Plan, environ: Mapping[str, str], parts: ExitStack, stop: threading.Event, say: Say) -> None:
    from memory_bank import open_memory_bank

    running: list[Part] = []

    def part(name: str, log: str, module: str, *words: str) -> None:
        command = [sys.executable, "-m", module, *words]
        new = Part(name, command, environ, None if plan.verbose else plan.logs / log)
        parts.callback(new.end)
        running.append(new)

    if plan.server_url is None:
        say("starting Prefect's server")
        address = ("--host", plan.prefect.host, "--port", str(plan.prefect.port))
        part("Prefect's server", "ui-server.log", "prefect", "server", "start", *address)
    _until(lambda: _answers(plan), running, stop, SERVER_SECONDS if running else 5.0, _unreachable(plan))
    parts.enter_context(serving(image_app(open_memory_bank, plan.dashboard), plan.images))
    _tell_image_url(plan)
    say("serving the forms")
    part("the process that serves the forms", "ui-forms.log", "flows.serving.forms")
    _until(lambda: _served(plan), running, stop, FORMS_SECONDS, "the forms did not appear in Prefect")
    say(f"Prefect: {plan.dashboard}/deployments")
    say(f"pictures and reports: {plan.image_url}")
    say(f"runs of the command line appear there too with: export PREFECT_API_URL={plan.api}")
    say("Ctrl-C ends all of it")
    while not stop.wait(LOOK_SECONDS):
        for item in running:
            item.check()


class _Stopped(Exception):
    """A signal came while the parts were starting."""


def _until(
    ready: Callable[[], bool], running: Sequence[Part], stop: threading.Event, seconds: float, problem: str
) -> None:
    """Wait until `ready`. Raises LegionError if a part dies or the time is up, _Stopped after a signal."""
    deadline = time.monotonic() + seconds
    while not ready():
        for item in running:
            item.check()
        if time.monotonic() > deadline:
            raise LegionError(problem)
        if stop.wait(LOOK_SECONDS):
            raise _Stopped


def _answers(plan: Plan) -> bool:
    try:
        return httpx.get(f"{plan.api}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _unreachable(plan: Plan) -> str:
    if plan.server_url is None:
        return f"Prefect's server gave no answer at {plan.api} in {SERVER_SECONDS:.0f} s: look at {plan.logs}"
    return (
        f"Prefect's server cannot be reached at {plan.api}: start it, or leave PREFECT_API_URL and --server "
        "away, and legion ui starts one"
    )


def _served(plan: Plan) -> bool:
    """Is every form there, as this program's process registered it?"""
    from flows.serving.parameters import FORMS

    found = _ask(plan, "deployments/filter", {"deployments": {"name": {"any_": list(FORMS)}}})
    return {item["name"] for item in found} >= set(FORMS)


def _tell_image_url(plan: Plan) -> None:
    """Let every run on this server know where its pictures are shown."""
    body = {"name": IMAGE_URL, "value": plan.image_url}
    try:
        answer = httpx.post(f"{plan.api}/variables/", json=body, timeout=10)
        if answer.status_code == 409:
            httpx.patch(f"{plan.api}/variables/name/{IMAGE_URL}", json=body, timeout=10).raise_for_status()
        else:
            answer.raise_for_status()
    except httpx.HTTPError as error:
        raise LegionError(f"Prefect's server at {plan.api} does not take settings: {error}") from error


def _ask(plan: Plan, what: str, body: dict[str, Any]) -> list[Any]:
    try:
        answer = httpx.post(f"{plan.api}/{what}", json=body, timeout=10)
        return list(answer.json()) if answer.status_code == 200 else []
    except httpx.HTTPError:
        return []


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """Set after Ctrl-C, SIGTERM or the terminal's end; a second one does not break the orderly end."""
    stop = threading.Event()
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {name: signal.signal(getattr(signal, name), lambda *_: stop.set()) for name in names}
    try:
        yield stop
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)

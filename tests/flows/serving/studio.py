"""`legion ui` as people run it, and the browser they look at it with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image as Pillow
from playwright.sync_api import Locator, Page, Response, expect, sync_playwright

PATIENCE = 600
"""Seconds for anything: a busy machine takes minutes to import what a run needs."""
PRESSES = 5
BUSY = 503
"""What Prefect's server answers while its SQLite database is held by another writer."""
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
SIZE = {"width": 1200, "height": 1000}
COLORS = 256
"""Of a screenshot's palette: pages are few flat colors and small pictures."""


@dataclass
class Studio:
    """A running `legion ui`."""

    process: subprocess.Popen[bytes]
    prefect: str
    images: str
    log: Path

    def api(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What Prefect's API says; asked again while its database is busy, as its client does."""
        url = f"{self.prefect}/api/{path}"
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = httpx.get(url, timeout=60) if body is None else httpx.post(url, json=body, timeout=60)
            if answer.status_code != BUSY or time.monotonic() > deadline:
                return answer.raise_for_status().json()
            time.sleep(1)

    def deployment(self, name: str) -> str:
        """The id of a form's deployment."""
        (found,) = self.api("deployments/filter", {"deployments": {"name": {"any_": [name]}}})
        return found["id"]

    def state(self, flow_run: str) -> str:
        """COMPLETED, PAUSED, ..."""
        return self.api(f"flow_runs/{flow_run}")["state"]["type"]

    def until(self, flow_run: str, *states: str) -> str:
        """Wait until the run is in one of these states."""
        deadline = time.monotonic() + PATIENCE
        while (state := self.state(flow_run)) not in states:
            over = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"} - set(states)
            assert state not in over, f"{state}: {self.messages(flow_run)}"
            assert time.monotonic() < deadline, f"still {state}: {self.messages(flow_run)}"
            time.sleep(1)
        return state

    def until_asked(self, flow_run: str, asked: int = 1) -> None:
        """Wait until so many questions are there: Prefect keeps a form a moment after it pauses."""
        deadline = time.monotonic() + PATIENCE
        path = f"flow_runs/{flow_run}/input/filter"
        while True:
            keys = [item["key"] for item in self.api(path, {"prefix": "paused", "limit": 200})]
            if sum(key.endswith("-description") for key in keys) >= asked:
                return
            assert time.monotonic() < deadline, self.messages(flow_run)
            time.sleep(1)

    def artifact(self, flow_run: str, key: str) -> dict[str, Any]:
        """The run's artifact whose key begins so."""
        (chosen,) = [item for item in self.artifacts(flow_run) if (item["key"] or "").startswith(key)]
        return chosen

    def artifacts(self, flow_run: str) -> list[dict[str, Any]]:
        """All that the run made."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [flow_run]}}}
        found: list[dict[str, Any]] = self.api("artifacts/filter", wanted)
        return found

    def messages(self, flow_run: str) -> list[str]:
        """The run's log."""
        wanted = {"flow_run_id": {"any_": [flow_run]}}
        logs = self.api("logs/filter", {"logs": wanted, "sort": "TIMESTAMP_ASC"})
        return [entry["message"] for entry in logs]

    def all_messages(self, flow_run: str) -> list[str]:
        """The log of a run that has ended, to its last line: Prefect hands lines in a moment late."""
        deadline = time.monotonic() + PATIENCE
        while True:
            said = self.messages(flow_run)
            if any(line.startswith("Finished in state") for line in said):
                return said
            assert time.monotonic() < deadline, said
            time.sleep(1)

    def submit(self, name: str, form: dict[str, Any]) -> str:
        """Start a run as a form does, without the browser; its id."""
        path = f"deployments/{self.deployment(name)}/create_flow_run"
        return self.api(path, {"parameters": {"form": form}})["id"]


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def studio(folder: Path) -> Iterator[Studio]:
    """`legion ui` with a home of its own below `folder`; ended by SIGTERM, as a service manager does."""
    ports = free_port(), free_port()
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "LEGION_"))
    }
    environ |= {"LEGION_HOME": str(folder / "home"), "PREFECT_HOME": str(folder / "prefect")}
    words = ["--port", str(ports[0]), "--image-port", str(ports[1]), "--pictures", str(pictures)]
    log = folder / "ui.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "ui", *words], env=environ, stderr=stream, stdout=stream
        )
    running = Studio(process, *(f"http://127.0.0.1:{port}" for port in ports), log)
    try:
        deadline = time.monotonic() + PATIENCE
        while "Ctrl-C ends all of it" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def chromium() -> str:
    """CHROMIUM, or the system's."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert found, "there is no Chromium: install it (apt-get install chromium), or name it with CHROMIUM"
    return found


@contextmanager
def browser_page(width: int = SIZE["width"], height: int = SIZE["height"]) -> Iterator[Page]:
    """A page of a fresh browser that forgives slowness."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=ARGUMENTS, timeout=PATIENCE * 1000
        )
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.set_default_timeout(PATIENCE * 1000)
        expect.set_options(timeout=PATIENCE * 1000)
        yield page
        browser.close()


def field(page: Page | Locator, title: str) -> Locator:
    """A form's field by its title."""
    label = f"normalize-space()='{title}' or normalize-space()='{title} (Optional)'"
    return page.locator(
        f"xpath=//span[contains(@class,'schema-form-property__label')][{label}]"
        "/ancestor::div[contains(concat(' ',@class,' '),' p-label ')][1]"
    ).last


def choose(page: Page, title: str, option: str) -> None:
    """Pick from a drop-down."""
    # By key: a click may close what it opened, as the page still scrolls to the button.
    field(page, title).locator(".p-select-button__control").press("ArrowDown")
    page.locator(".p-select-option").filter(has_text=option).click()
    expect(field(page, title).locator(".p-select-button__control")).to_have_text(option)


def write(page: Page, title: str, text: str) -> None:
    """Fill in a text or a number."""
    field(page, title).locator("textarea, input").first.fill(text)


def press(page: Page, button: Locator, address: str) -> Response:
    """Press a button; the server's answer at the address that matches.

    A SQLite server under load refuses with 503 and the page stays as it is: a person presses again, and so
    does this, a few times.
    """
    for _ in range(PRESSES):
        with page.expect_response(re.compile(address)) as answered:
            button.click()
        if answered.value.ok:
            break
        page.wait_for_timeout(2000)
    assert answered.value.ok, f"{answered.value.status}: {answered.value.text()}"
    return answered.value


def sizes(page: Page, kind: str) -> list[int]:
    """The natural widths of a page's pictures whose address begins with `kind`; 0 is a broken one."""
    page.wait_for_function("() => [...document.images].every(i => i.complete)")
    return page.evaluate(
        "kind => [...document.images].filter(i => i.src.startsWith(kind)).map(i => i.naturalWidth)", kind
    )


class Shots:
    """Screenshots for the documentation, made only where a folder is named."""

    def __init__(self, folder: str | None) -> None:
        self._folder = None if folder is None else Path(folder)

    def take(self, page: Page, name: str) -> None:
        """A picture of the page, in few colors, so that it is small."""
        if self._folder is None:
            return
        path = self._folder / f"{name}.png"
        page.wait_for_timeout(3000)  # Prefect draws its pages after they are there
        page.screenshot(path=path)
        picture = Pillow.open(path).convert("RGB")
        picture.quantize(COLORS, dither=Pillow.Dither.NONE).save(path, optimize=True)

"""Pictures, marked pictures and reports of the memory bank over http, for pages that show them.

Everything is asked for by digest or by run, and read through the memory bank: no request names a file, so
none can leave the store, and an object store is served like a folder. `image_app` is an ASGI application of
its own; whoever has another one can mount it.
"""

from __future__ import annotations

import io
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache

import uvicorn
from PIL import Image as Pillow
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from contracts.errors import InvalidInput, LegionError, MemoryBankError, RunNotFound
from contracts.records import Run
from flows.files.pictures import marked
from flows.pages.report import page_template
from flows.serving.places import Address, reports_folder
from flows.terminal.wording import outcome, repair_outcome, title_of
from memory_bank import SqlMemoryBank

FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}
"""A digest names one picture for ever."""
SAFE = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'",
}
REPORT_NAME = re.compile(r"[a-z]+-[0-9a-f]{8}")
LISTED_RUNS = 50
STARTUP_SECONDS = 20.0

REACHED = """<svg xmlns="http://www.w3.org/2000/svg" width="210" height="20" role="img">
<rect width="210" height="20" rx="4" fill="#e7f5ee"/><circle cx="12" cy="10" r="4" fill="#00875a"/>
<text x="22" y="14" font-family="sans-serif" font-size="11" fill="#0b3d2c">full pictures are connected</text>
</svg>"""
"""Shown in a gallery whose reader's browser reaches this server; for others its alternative text says what
to do."""


def image_app(open_bank: Callable[[], SqlMemoryBank], dashboard: str | None = None) -> Starlette:
    """The application. `dashboard` is Prefect's address, which the first page links to."""
    bank = lru_cache(maxsize=1)(open_bank)

    def health(_request: Request) -> Response:
        return PlainTextResponse("ok")

    def reached(_request: Request) -> Response:
        return Response(REACHED, media_type="image/svg+xml", headers={**SAFE, "Cache-Control": "no-store"})

    def front(_request: Request) -> Response:
        return HTMLResponse(_front_page(bank().runs(LISTED_RUNS), dashboard), headers=SAFE)

    def picture(request: Request) -> Response:
        try:
            image = bank().image(request.path_params["digest"])
        except MemoryBankError:  # its text names folders of this machine
            return PlainTextResponse("no picture of that digest is kept here\n", 404, headers=SAFE)
        return _png(Pillow.fromarray(image), FOREVER)

    def round_picture(request: Request) -> Response:
        run = bank().load(request.path_params["run_id"])
        item = next((r for r in run.rounds if r.index == request.path_params["index"]), None)
        if item is None or item.image is None:
            raise RunNotFound(f"run {run.run_id} has no picture of that round")
        findings = item.diagnosis.findings if item.diagnosis else ()
        return _png(marked(bank().image(item.image), findings), {"Cache-Control": "no-cache"})

    def report(request: Request) -> Response:
        return HTMLResponse(_report(bank(), request.path_params["run_id"]), headers=SAFE)

    def form_report(request: Request) -> Response:
        name = request.path_params["name"]
        path = reports_folder() / name / "report.html"
        if not REPORT_NAME.fullmatch(name) or not path.is_file():
            return PlainTextResponse("there is no report of that name\n", 404, headers=SAFE)
        return HTMLResponse(path.read_text(encoding="utf-8"), headers=SAFE)

    def slashless(request: Request) -> Response:
        return RedirectResponse(f"/runs/{request.path_params['run_id']}/report.html")

    routes = [
        Route("/", front),
        Route("/health", health),
        Route("/reached.svg", reached),
        Route("/images/{digest}.png", picture),
        Route("/runs/{run_id}/rounds/{index:int}/marked.png", round_picture),
        Route("/runs/{run_id}/report.html", report),
        Route("/runs/{run_id}", slashless),
        Route("/reports/{name}/report.html", form_report),
    ]
    return Starlette(routes=routes, exception_handlers={LegionError: _refuse})


@contextmanager
def serving(app: Starlette, address: Address) -> Iterator[None]:
    """The application at an address, in a thread of this process, as long as the context lasts. Raises
    LegionError if it does not start."""
    config = uvicorn.Config(app, address.host, address.port, log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="image server", daemon=True)
    thread.start()
    deadline = time.monotonic() + STARTUP_SECONDS
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.02)
    if not server.started:
        raise LegionError(f"the image server does not start at {address.url}: choose another --image-port")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=5)


def _refuse(_request: Request, error: Exception) -> Response:
    """One line: 404 for a run that is not there, 400 for what is no run's id, 500 for a bank in trouble."""
    if isinstance(error, RunNotFound | InvalidInput):
        return PlainTextResponse(f"{error}\n", 404 if isinstance(error, RunNotFound) else 400, headers=SAFE)
    logging.getLogger(__name__).warning("the image server cannot read the memory bank: %s", error)
    return PlainTextResponse("the memory bank cannot be read: legion db check says more\n", 500, headers=SAFE)


def _png(picture: Pillow.Image, headers: dict[str, str]) -> Response:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Response(buffer.getvalue(), media_type="image/png", headers={**SAFE, **headers})


def _report(bank: SqlMemoryBank, run_id: str) -> str:
    run = bank.load(run_id)
    if run.kind == "inpainting":
        from flows.pages.inpainting_report import Named, render_repair_report

        return render_repair_report([Named(run, title_of(run))], bank.image)
    from flows.pages.report import render_report

    return render_report([run], bank.image)


def _front_page(runs: Sequence[Run], dashboard: str | None) -> str:
    return page_template("runs.html.j2").render(rows=[_row(run) for run in runs], dashboard=dashboard)


def _row(run: Run) -> dict[str, str | None]:
    return {
        "id": run.run_id,
        "kind": run.kind,
        "status": run.status,
        "picture": run.result,
        "title": title_of(run),
        "outcome": repair_outcome(run) if run.kind == "inpainting" else outcome(run),
    }

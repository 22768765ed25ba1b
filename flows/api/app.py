"""The routes. What they do is in service.py."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

from contracts.errors import LegionError
from flows.api import bodies
from flows.api.guard import Guard
from flows.api.queue import State, Submission
from flows.api.refusals import Refusal
from flows.api.service import Service

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 15.0
"""A comment is sent where nothing happens, so that proxies keep the stream open."""

RunId = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$", description="the run's id")]
RoundIndex = Annotated[int, Path(ge=1, le=10_000, description="counted from 1")]
FindingNumber = Annotated[int, Path(ge=1, le=10_000, description="counted from 1")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+$",
        description="repeat a request under the same key and it is accepted once",
    ),
]


def _said(*statuses: int) -> dict[int | str, dict[str, Any]]:
    words = {
        400: "not understood",
        401: "no token, or a wrong one",
        403: "outside the allowed folders, or a page of another site",
        404: "not there",
        409: "not in this state",
        410: "what it needs was removed",
        413: "too large",
        414: "an address that is too long",
        422: "understood, but not usable",
        429: "as many runs wait as may wait; Retry-After says when to come again",
        503: "too many listeners, or the memory bank cannot be reached",
        507: "no room for more pictures",
    }
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refused"}}}
    return {status: {"content": content, "description": words[status]} for status in statuses}


COMMON = _said(400, 401, 403, 404, 414, 422, 503)
PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}
ACCEPTED: dict[int | str, dict[str, Any]] = {
    200: {"model": bodies.RunState, "description": "accepted before, under the same key"},
    **_said(413, 429),
}


class _Png(Response):
    media_type = "image/png"


def create_app(service: Service) -> Any:
    """The ASGI application. The service works while the application runs."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await run_in_threadpool(service.stop)

    app = FastAPI(
        title="LEGION studio",
        version=version("legion-studio"),
        description="Pictures that are painted, checked and repaired. docs/api.md has examples.",
        lifespan=lifespan,
        docs_url=None,  # both pages would load scripts from elsewhere
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        separate_input_output_schemas=False,
        responses=COMMON,
        dependencies=[Depends(_known_query)],
    )
    _answer_errors(app)
    _add_asking(app, service)
    _add_looking(app, service)
    _add_pictures(app, service)
    _complete_document(app, bool(service.settings.token))
    return Guard(app, service.settings.token, service.settings.upload_bytes)


def _known_query(request: Request) -> None:
    """Raises Refusal for a word of the query that the route does not know, such as a misspelled one."""
    known = {parameter.alias for parameter in request.scope["route"].dependant.query_params}
    if unknown := sorted(set(request.query_params) - known):
        takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
        raise Refusal(422, "invalid", f"{unknown[0][:40]!r} is not known in this address's query: {takes}")


def _add_asking(app: FastAPI, service: Service) -> None:
    def accepted(response: Response, submission: Submission, new: bool) -> bodies.RunState:
        response.status_code = 202 if new else 200
        response.headers["Location"] = f"/v1/runs/{submission.run_id}"
        return service.state(submission)

    @app.post("/v1/regenerations", status_code=202, responses=ACCEPTED, tags=["asking"])
    def regenerate(asked: bodies.RegenerationAsked, response: Response, key: Key = None) -> bodies.RunState:
        """Ask for a picture of a prompt."""
        return accepted(response, *service.regenerate(asked, key))

    @app.post("/v1/inpaintings", status_code=202, responses={**ACCEPTED, **_said(507)}, tags=["asking"])
    def inpaint(asked: bodies.InpaintingAsked, response: Response, key: Key = None) -> bodies.RunState:
        """Ask for the repair of a picture."""
        return accepted(response, *service.inpaint(asked, key))

    @app.post("/v1/runs/{run_id}/cancel", status_code=202, tags=["asking"])
    def cancel(run_id: RunId) -> bodies.RunState:
        """Cancel a run: at once if it waits, at its next step if it is worked on. What is done is kept."""
        return service.state(service.cancel(run_id))

    @app.post("/v1/runs/{run_id}/resume", status_code=202, responses=_said(409, 429), tags=["asking"])
    def resume(run_id: RunId) -> bodies.RunState:
        """Let a cancelled or failed run go on where it stood."""
        return service.state(service.resume(run_id))


def _add_looking(app: FastAPI, service: Service) -> None:
    listening = asyncio.Semaphore(service.settings.listeners)

    @app.get("/v1/health", tags=["looking"])
    def health() -> bodies.Health:
        """Is the server well? Needs no token."""
        return service.health()

    @app.get("/v1/runs", tags=["looking"])
    def runs(
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        state: Annotated[State | None, Query()] = None,
        before: Annotated[int | None, Query(ge=1, le=2**63 - 1)] = None,
    ) -> bodies.RunList:
        """Runs that this server accepted, newest first."""
        return service.latest(limit, state, before)

    @app.get("/v1/runs/{run_id}", tags=["looking"])
    def run(run_id: RunId) -> bodies.RunState:
        """A run as it stands."""
        return service.state(service.submission(run_id))

    @app.get("/v1/runs/{run_id}/rounds/{index}", tags=["looking"])
    def one_round(run_id: RunId, index: RoundIndex) -> bodies.RoundWhole:
        """A round with all that was found in its picture."""
        return service.round(run_id, index)

    @app.get("/v1/runs/{run_id}/rounds/{index}/picture", response_class=_Png, responses=PNG, tags=["looking"])
    def round_picture(run_id: RunId, index: RoundIndex, marked: bool = False) -> Response:
        """A round's picture; `marked` draws in what was found."""
        return _Png(service.round_picture(run_id, index, marked))

    @app.get(
        "/v1/runs/{run_id}/rounds/{index}/findings/{number}/mask",
        response_class=_Png,
        responses=PNG,
        tags=["looking"],
    )
    def mask(run_id: RunId, index: RoundIndex, number: FindingNumber) -> Response:
        """Where a flaw is: white inside."""
        return _Png(service.mask(run_id, index, number))

    @app.get(
        "/v1/runs/{run_id}/result",
        response_class=_Png,
        responses={**PNG, **_said(409, 410)},
        tags=["looking"],
    )
    def result(run_id: RunId) -> Response:
        """The picture that the run returns, once it has ended."""
        return _Png(service.result(run_id))

    @app.get("/v1/runs/{run_id}/report", response_class=HTMLResponse, responses=_said(409), tags=["looking"])
    def report(run_id: RunId) -> HTMLResponse:
        """The run's page: self-contained HTML."""
        return HTMLResponse(service.report(run_id))

    @app.get(
        "/v1/runs/{run_id}/events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
        tags=["looking"],
    )
    async def events(
        run_id: RunId,
        last_event_id: Annotated[str, Header(alias="Last-Event-ID", max_length=100)] = "",
    ) -> StreamingResponse:
        """What happens to a run, as server-sent events, until its end; `Last-Event-ID` goes on from there."""
        await run_in_threadpool(service.submission, run_id)
        if listening.locked():
            raise Refusal(
                503, "too_many_listeners", "as many programs listen as may listen: ask for the run instead"
            )
        await listening.acquire()

        async def stream() -> AsyncIterator[str]:
            try:
                async for text in _events(service, run_id, last_event_id):
                    yield text
            finally:
                listening.release()

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)


def _add_pictures(app: FastAPI, service: Service) -> None:
    content = {"image/*": {"schema": {"type": "string", "format": "binary"}}}

    @app.post(
        "/v1/pictures",
        status_code=201,
        responses=_said(413, 507),
        openapi_extra={"requestBody": {"required": True, "content": content}},
        tags=["asking"],
    )
    async def send_picture(request: Request) -> bodies.PictureKept:
        """Send a picture: its bytes are the body. The answer names it for later requests."""
        temporary = await service.pictures.receive(request.stream())
        kept = await run_in_threadpool(service.pictures.keep, temporary)
        return bodies.PictureKept(picture=kept.digest, width=kept.width, height=kept.height, bytes=kept.bytes)


async def _events(service: Service, run_id: str, last: str) -> AsyncIterator[str]:
    """The notices of a run as server-sent events, up to its end or the server's."""
    notices = service.notices
    epoch, _, number = last.partition("-")
    seen = int(number) if epoch == notices.epoch and number.isdecimal() and len(number) < 10 else 0
    quiet = 0.0
    while not service.runner.stopping:
        # The state is read first: what is noticed until then is sent before the end.
        submission = await run_in_threadpool(service.submission, run_id)
        for notice in notices.after(run_id, seen):
            seen, quiet = notice.number, 0.0
            yield _event(f"{notices.epoch}-{notice.number}", notice.name, notice.data)
            if notice.name == "end" and submission.state not in ("queued", "running"):
                return
        if submission.state not in ("queued", "running"):
            error = {"error": submission.error} if submission.error else {}
            yield _event(f"{notices.epoch}-{seen}", "end", {"state": submission.state, **error})
            return
        await asyncio.sleep(POLL_SECONDS)
        quiet += POLL_SECONDS
        if quiet >= HEARTBEAT_SECONDS:
            quiet = 0.0
            yield ": still here\n\n"


def _event(number: str, name: str, data: Any) -> str:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(dict(data), ensure_ascii=False)}\n\n"


def _answer_errors(app: FastAPI) -> None:
    """Every error is one JSON object with a code and a line."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        refusal = Refusal(422, "invalid", _problem(error))
        return JSONResponse(refusal.body(), refusal.status)

    @app.exception_handler(HTTPException)
    async def http(_request: Request, error: HTTPException) -> JSONResponse:
        code = {400: "not_understood", 404: "not_found", 405: "wrong_method"}.get(
            error.status_code, "refused"
        )
        said = {
            400: "the body is not JSON",
            404: "there is nothing at this address: /v1/openapi.json says what there is",
            405: "this address takes another method: /v1/openapi.json says which",
        }
        text = said.get(error.status_code, str(error.detail))
        return JSONResponse({"code": code, "error": text}, error.status_code, headers=error.headers)

    @app.exception_handler(Refusal)
    async def refused(_request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse(error.body(), error.status, headers=error.headers)

    @app.exception_handler(LegionError)
    async def unusable(_request: Request, error: LegionError) -> JSONResponse:
        logging.getLogger(__name__).warning("%s", error)
        return JSONResponse({"code": "unavailable", "error": str(error)}, 503)

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, error: Exception) -> JSONResponse:
        # Starlette raises it again once this is sent, so that the traceback is in the log.
        said = f"unexpected {type(error).__name__}: the server's log has the details"
        return JSONResponse({"code": "unexpected", "error": said}, 500)


def _problem(error: RequestValidationError) -> str:
    """The first thing that is wrong, in one line, without what was sent."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:]) or "the body"
    if first["type"] == "json_invalid":
        return "the body is not JSON"
    if first["type"] == "model_attributes_type":
        return f"{where} is no JSON object: send one, with Content-Type: application/json"
    if first["type"] == "extra_forbidden":
        return f"{where} is not known here: /v1/openapi.json says what is"
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _complete_document(app: FastAPI, token: bool) -> None:
    """Add to the OpenAPI document how a refusal looks, and that a token is needed where one is."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        document = plain()
        parts = document.setdefault("components", {})
        parts.setdefault("schemas", {})["Refused"] = bodies.Refused.model_json_schema()
        if token:
            parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"token": []}]
            document["paths"]["/v1/health"]["get"]["security"] = []
        return document

    app.openapi = complete  # type: ignore[method-assign]

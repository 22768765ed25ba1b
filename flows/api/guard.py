"""What is refused before any of our code reads it: no token, pages of other sites, paths and bodies too long.

Plain ASGI, so that streams pass through unread. Without a token (on loopback alone) a page in the user's own
browser is the danger: it could reach the server too, so requests must name the server as it is, and must not
come from another site.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from flows.api.refusals import Refusal
from flows.api.settings import is_loopback

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN_PATHS = frozenset({"/v1/health"})
MAX_PATH = 2048
"""Characters of path and query together."""
MAX_BODY = 65_536
"""Bytes of a request that is no picture."""
PICTURES_PATH = "/v1/pictures"


class Guard:
    """Lets through what may pass, and answers the rest itself."""

    def __init__(self, app: App, token: str, picture_bytes: int) -> None:
        self._app, self._token, self._picture_bytes = app, token, picture_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = _Body(receive, self._check(scope))
        except Refusal as refusal:
            await answer(refusal, send)
            return

        async def send_or_refuse(message: MutableMapping[str, Any]) -> None:
            # Whoever reads the body may turn the refusal into an answer of its own: this one stands.
            if body.refusal is None:
                await send(message)
            elif message["type"] == "http.response.start":
                await answer(body.refusal, send)

        await self._app(scope, body.receive, send_or_refuse)

    def _check(self, scope: Scope) -> int:
        """The bytes that the body may have. Raises Refusal."""
        headers = _headers(scope)
        if len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"]) > MAX_PATH:
            raise Refusal(414, "path_too_long", f"the address has more than {MAX_PATH:,} characters")
        if not self._token:
            _check_local(headers)
        elif scope["path"] not in OPEN_PATHS and not self._may(headers.get("authorization", "")):
            raise Refusal(
                401,
                "unauthorized",
                "this server needs its token: send it as Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )
        most = self._picture_bytes if scope["path"] == PICTURES_PATH else MAX_BODY
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > most:
            raise _too_large(most)
        return most

    def _may(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        given, known = token.strip().encode("utf-8", "replace"), self._token.encode()
        return scheme.lower() == "bearer" and hmac.compare_digest(given, known)


async def answer(refusal: Refusal, send: Send) -> None:
    """Send a refusal as the whole response."""
    content = json.dumps(refusal.body()).encode()
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(content)),
        "Connection": "close",  # what is left of the body is not read
        **refusal.headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": content})


class _Body:
    """The body of a request, but not more than `most` bytes of it, whatever its headers said."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._left, self._most = receive, most, most
        self.refusal: Refusal | None = None

    async def receive(self) -> MutableMapping[str, Any]:
        """The next part. Raises Refusal."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self.refusal = _too_large(self._most)
            raise self.refusal
        return message


def _check_local(headers: dict[str, str]) -> None:
    """Raises Refusal for a request by another name than loopback's, or by a page of another site."""
    host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
    if not is_loopback(host):
        raise Refusal(
            403, "foreign_host", "without a token this server answers to 127.0.0.1 and localhost alone"
        )
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host", ""):
        raise Refusal(403, "foreign_page", "pages of other sites may not use this server")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"the body may have {most:,} bytes")

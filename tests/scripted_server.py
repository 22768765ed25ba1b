"""A real HTTP server on this machine that answers as it is told, good and bad."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[BaseHTTPRequestHandler], None]


class ScriptedServer:
    """Gives its replies in order, the last one again and again; keeps every request."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [chat("{}")]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._turn, self._lock = 0, threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                is_json = "json" in self.headers["content-type"]
                body = json.loads(content) if is_json else {"form": content}
                outer._next(body, dict(self.headers))(self)

            def do_GET(self) -> None:
                send(200, json.dumps({"object": "list", "data": [{"id": "tiny", "object": "model"}]}))(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def say(self, *replies: Reply) -> None:
        self.replies, self._turn = list(replies), 0

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _next(self, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        with self._lock:
            self.bodies.append(body)
            self.headers.append({key.lower(): value for key, value in headers.items()})
            reply = self.replies[min(self._turn, len(self.replies) - 1)]
            self._turn += 1
        return reply


def send(status: int, text: str, kind: str = "application/json", **headers: str) -> Reply:
    """A whole response."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        content = text.encode()
        handler.send_response(status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(content)

    return reply


def chat(
    content: str | None, *, finish: str = "stop", usage: object = (50, 20), refusal: str | None = None
) -> Reply:
    """A chat completion that says `content`."""
    message = {"role": "assistant", "content": content, "refusal": refusal}
    body: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": "tiny"}
    body["choices"] = [{"index": 0, "message": message, "finish_reason": finish}]
    if isinstance(usage, tuple):
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    else:
        body["usage"] = usage
    return send(200, json.dumps(body))


def problem(status: int, message: str, **headers: str) -> Reply:
    """An error as OpenAI sends it."""
    return send(status, json.dumps({"error": {"message": message, "type": "e", "code": None}}), **headers)


def html(status: int = 200) -> Reply:
    """What a proxy sends."""
    return send(status, "<!doctype html><html><body>Bad gateway</body></html>", "text/html")


def hang(seconds: float) -> Reply:
    """Nothing at all for so long."""

    def reply(_handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)

    return reply


def drip(seconds: float) -> Reply:
    """A response that comes byte by byte, and never ends in time."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", "1000")
        handler.end_headers()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                handler.wfile.write(b" ")
                handler.wfile.flush()
            except OSError:
                return
            time.sleep(0.02)

    return reply


def cut(after: int = 40) -> Reply:
    """A response that breaks off in the middle of its JSON."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", "1000")
        handler.end_headers()
        handler.wfile.write(b'{"choices": [{"message": {"content": "a long prompt'[:after])
        handler.wfile.flush()
        handler.close_connection = True

    return reply


def echo_key() -> Reply:
    """A 500 whose error text plays the caller's key back, whole and in pieces."""

    def reply(handler: BaseHTTPRequestHandler) -> None:
        key = handler.headers["authorization"].removeprefix("Bearer ")
        text = f"bad key {key} or {key[:12]}..., {key[-10:]}"
        problem(500, text)(handler)

    return reply

"""The one home of the `openai` package: a server, its key, and calls that end, one way or another.

A call is tried again, after a growing and random pause, where that may help: no connection, no answer in
time, 408, 409, 429, 5xx, an answer that is no JSON. Everything else fails at once. The key comes from the
environment only; no error text, log line or record ever holds it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from contracts.errors import InvalidInput, ModelError, RemoteError

if TYPE_CHECKING:
    import openai

OPENAI_URL = "https://api.openai.com/v1"
OPENAI_KEY = "OPENAI_API_KEY"
OTHER_KEY = "LEGION_LLM_API_KEY"
"""For servers named by their address: OpenAI's key is not for them."""

MAX_ANSWER_BYTES = 4_000_000
FIRST_PAUSE, LONGEST_PAUSE, LONGEST_REQUESTED_PAUSE = 0.5, 8.0, 30.0
"""Seconds. A server may ask for more than our own longest pause (Retry-After), up to the last of them."""

_WORTH_A_RETRY = {408, 409, 429}
_MAX_QUOTED = 160

_log = logging.getLogger(__name__)

Retrying: TypeAlias = Callable[[RemoteError, float], None]
"""Told why an attempt failed that is followed by another, and in how many seconds at most the last ends."""


def tell_retry(problem: RemoteError, seconds: float) -> None:
    """Log that a server is asked again: nobody should wait for minutes and not know for what."""
    _log.warning("%s; it is asked again, for %.0f s at most", problem, seconds)


class BadRequest(ModelError):
    """The server does not take the request as it is (400, 404, 422): a part of it may be unknown to it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class ServerSettings:
    """Where a server is and how patient we are. Raises InvalidInput for an address that cannot be used."""

    base_url: str | None = None
    """Address up to and including `/v1`; None is OpenAI itself, or what OPENAI_BASE_URL says."""
    key_variable: str | None = None
    """Environment variable that holds the key. None is OPENAI_API_KEY for OpenAI itself, and for a
    `base_url` LEGION_LLM_API_KEY, which may be missing."""
    timeout: float = 60.0
    """Seconds for one attempt, from its first byte to its last."""
    attempts: int = 3
    """Times a call is tried, 1 or more."""
    name: str = ""
    """What a person and a record are told instead of the address, where that changes from run to run."""

    def __post_init__(self) -> None:
        if self.base_url is not None:
            _check_address(self.base_url)
        if not self.timeout > 0:
            raise InvalidInput(f"a timeout of {self.timeout:g} s cannot be used: choose more than 0")
        if self.attempts < 1:
            raise InvalidInput(f"{self.attempts} attempts cannot be made: choose 1 or more")


class Server:
    """One server. Safe to use from several threads."""

    def __init__(
        self,
        settings: ServerSettings,
        *,
        environ: Mapping[str, str] = os.environ,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Raises InvalidInput if the key is missing where it is needed, or cannot be a key."""
        self.settings = settings
        self._sleep = sleep
        self._is_openai = settings.base_url is None
        self.base_url = settings.base_url or environ.get("OPENAI_BASE_URL") or OPENAI_URL
        _check_address(self.base_url)
        self.name = settings.name or self.base_url
        self._key = _key(settings, environ, needed=self.base_url == OPENAI_URL)

    def __repr__(self) -> str:
        return f"Server({self.name})"

    @cached_property
    def client(self) -> openai.OpenAI:
        """The openai package's own client. It tries nothing again: `call` does."""
        import httpx2
        import openai

        timeout = httpx2.Timeout(self.settings.timeout, connect=min(10.0, self.settings.timeout))
        client = openai.OpenAI(
            api_key=self._key or "none", base_url=self.base_url, max_retries=0, timeout=timeout
        )
        if not self._is_openai:
            client.organization = client.project = None  # of OpenAI's, from its variables; not for others
        return client

    def call(
        self,
        send: Callable[[openai.OpenAI], Any],
        before: Callable[[], None] = lambda: None,
        retrying: Retrying = tell_retry,
    ) -> Any:
        """What `send` makes of the client, tried again where that may help; `before` runs before each attempt
        and may raise to prevent it, `retrying` after each one that failed and is followed by another.

        Raises RemoteError after the last attempt, BadRequest for a request the server does not take, and
        ModelError for other refusals (key, quota, unknown model).
        """
        for attempt in range(1, self.settings.attempts + 1):
            before()
            try:
                return send(self.client)
            except Exception as error:
                problem, pause = self._explain(error, attempt)
                if not isinstance(problem, RemoteError) or attempt == self.settings.attempts:
                    # Never chained: the text of the original may hold what the server said about the key.
                    raise problem from None
            retrying(problem, self._longest(attempt, pause))
            self._sleep(pause)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def chat(
        self,
        body: Mapping[str, Any],
        before: Callable[[], None] = lambda: None,
        retrying: Retrying = tell_retry,
    ) -> dict[str, Any]:
        """One chat completion, as the JSON object the server sent. Raises what `call` raises."""
        return dict(self.call(lambda client: self._chat_once(client, body), before, retrying))

    def models(self) -> list[str]:
        """Names of the models the server offers: a cheap way to see that it answers. Raises what `call`
        raises."""
        return [str(model.id) for model in self.call(lambda client: client.models.list().data or [])]

    def _longest(self, attempt: int, pause: float) -> float:
        """Seconds from the end of that attempt to the end of the last, if none is answered."""
        later = range(attempt + 1, self.settings.attempts)
        pauses = pause + sum(_longest_pause(number) for number in later)
        return pauses + (self.settings.attempts - attempt) * self.settings.timeout

    def _chat_once(self, client: openai.OpenAI, body: Mapping[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + self.settings.timeout
        with client.chat.completions.with_streaming_response.create(**body) as response:
            received = bytearray()
            for piece in response.iter_bytes():
                received += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
                if len(received) > MAX_ANSWER_BYTES:
                    raise _Unreadable("is longer than any answer can be")
        return _completion(bytes(received), response.headers.get("content-type", ""))

    def _explain(self, error: Exception, attempt: int) -> tuple[Exception, float]:
        """What to tell a person, and how long to wait if the call is tried again."""
        import httpx2
        import openai

        pause = _pause(attempt)
        match error:
            case openai.APIStatusError():
                asked_for = _retry_after(error.response.headers)
                return self._status_problem(error), pause if asked_for is None else max(pause, asked_for)
            case openai.APITimeoutError() | httpx2.TimeoutException() | TimeoutError():
                return self._failed(f"did not answer within {self.settings.timeout:g} s"), pause
            case openai.APIConnectionError() | httpx2.HTTPError():
                return self._failed("cannot be reached or broke off: is it running?"), pause
            case _Unreadable():
                return self._failed(f"sent an answer that {self.without_key(str(error))}"), pause
            case openai.OpenAIError() | json.JSONDecodeError() | AttributeError() | TypeError():
                return self._failed("sent an answer that is not of the OpenAI kind"), pause
        raise error

    def _status_problem(self, error: openai.APIStatusError) -> Exception:
        status = error.status_code
        if status in (401, 403):
            # Never quoted: servers like to repeat the key here.
            where = (
                f"check {self._key_variable()}"
                if self._key
                else f"it wants a key: set {self._key_variable()}"
            )
            return ModelError(f"the server {self.base_url} refused the key ({status}): {where}")
        said = self.without_key(_server_says(error.body))
        if status == 429 and "quota" in f"{error.code} {said}".lower():
            return ModelError(f"no quota is left at {self.name} (429{said}): check its billing")
        if status in _WORTH_A_RETRY or status >= 500:
            return self._failed(f"answered with status {status}{said}")
        return BadRequest(f"the server {self.name} did not take the request ({status}{said})", status)

    def _key_variable(self) -> str:
        return self.settings.key_variable or (OPENAI_KEY if self._is_openai else OTHER_KEY)

    def _failed(self, what: str) -> RemoteError:
        return RemoteError(f"the server {self.name} {what}")

    def without_key(self, text: str) -> str:
        """The text without the key, or a long piece of it: for what a server said."""
        return hide(text, self._key)


class _Unreadable(Exception):
    """A successful status with something that is no answer."""


def hide(text: str, key: str) -> str:
    """The text with the key, and every piece of 8 or more of its characters, replaced by `***`."""
    if len(key) < 8:
        return text.replace(key, "***") if key else text
    covered = [False] * len(text)
    for start in range(len(text) - 7):
        if text[start : start + 8] in key:
            covered[start : start + 8] = [True] * 8
    return re.sub(
        "\0+", "***", "".join("\0" if hidden else c for c, hidden in zip(text, covered, strict=True))
    )


def _completion(content: bytes, kind: str) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        what = "is a web page, not JSON" if "html" in kind or content.lstrip()[:1] == b"<" else "is not JSON"
        raise _Unreadable(what) from None
    if isinstance(data, dict) and data.get("error"):
        raise _Unreadable(f"is an error with status 200{_server_says(data['error'])}")
    if not (isinstance(data, dict) and isinstance(data.get("choices"), list) and data["choices"]):
        raise _Unreadable("holds no choices: is the address right? it ends in /v1 with most servers")
    return data


def _server_says(body: object) -> str:
    """`: message` of an error body, one line, cut; nothing for web pages and the like."""
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
    else:
        message = body
    text = " ".join(str(message or "").split())
    if not text or text.startswith("<"):
        return ""
    return f": {text if len(text) <= _MAX_QUOTED else text[:_MAX_QUOTED] + '...'}"


def _pause(attempt: int) -> float:
    """Twice as long each time, and between half and all of it, so that many clients do not return at once."""
    return _longest_pause(attempt) * random.uniform(0.5, 1.0)


def _longest_pause(attempt: int) -> float:
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (attempt - 1)))


def _retry_after(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(seconds, LONGEST_REQUESTED_PAUSE) if seconds >= 0 else None


def _key(settings: ServerSettings, environ: Mapping[str, str], needed: bool) -> str:
    default = OPENAI_KEY if settings.base_url is None else OTHER_KEY
    variable = settings.key_variable or default
    key = environ.get(variable, "").strip()
    if not key and (needed or settings.key_variable):
        raise InvalidInput(
            f"no key: set the environment variable {variable}, or name another server (--llm-base-url)"
        )
    if not (key.isascii() and (not key or key.isprintable()) and " " not in key):
        raise InvalidInput(f"what {variable} holds cannot be a key: it has spaces or unusual characters")
    return key


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or any(c.isspace() for c in address):
        shown = address.rpartition("@")[2]
        raise InvalidInput(f"{shown!r} is no server's address: write one such as http://localhost:8080/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInput(
            "the server's address holds more than scheme, host, port and path: "
            "a key belongs in the environment"
        )

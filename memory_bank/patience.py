"""Waiting for a database or an object store that does not answer: how long, and for which errors.

A server that restarts or fails over is back within a minute; a wrong address or a missing permission is not.
So what has answered once is waited for, what has not is given two seconds, and an error that time does not
heal is raised at once.
"""

from __future__ import annotations

import errno
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

T = TypeVar("T")

AWAY_SECONDS = 60.0
"""How long a server that has answered before is waited for."""
FIRST_SECONDS = 2.0
"""And one that has not: its address may be wrong."""
_PAUSE, _LONGEST_PAUSE = 0.05, 1.0

_GONE = re.compile(r"08...|57P0[123]|53300")
"""PostgreSQL's codes for a lost connection, a server that stops or starts, and too many connections."""
_NO_CONNECTION = re.compile(
    r"refused|timed? ?out|timeout|closed the connection|connection reset|broken pipe|unreachable"
    r"|temporary failure|starting up|shutting down|no such file or directory"
)
"""What libpq says, without a code, where there is no server: the last of a socket's file."""
_PASSING = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTUNREACH,
    errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EPIPE,
}  # fmt: skip
_LASTING = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENOENT}
_NAMES = {
    "ConnectionError",
    "HTTPClientError",
    "ClientConnectionError",
    "ServiceRequestError",
    "TransportError",
}
"""Base classes of "no answer" in the clients of object stores (botocore, aiohttp, azure, google), which are
not imported here."""
_BUSY = {408, 429}


def patiently(work: Callable[[], T], worth: Callable[[Exception], float]) -> T:
    """Do it, and do it again while `worth(error)` seconds have not passed since the beginning."""
    begun = time.monotonic()
    told = False
    for pause in _pauses():
        try:
            return work()
        except Exception as error:
            seconds = worth(error)
            if time.monotonic() - begun >= seconds:
                raise
            if seconds == AWAY_SECONDS and not told:
                told = True
                logging.getLogger(__name__).warning(
                    "the memory bank's storage does not answer (%s); waiting up to %.0f s for it",
                    cause_of(error)[:200],
                    seconds,
                )
        time.sleep(pause)
    raise AssertionError("there is always another pause")


def database_is_away(error: Exception) -> bool:
    """Is there no server, or not any more? Never true of a SQLite file."""
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlstate", None)
    if code is not None:
        return _GONE.fullmatch(code) is not None
    if type(error.orig).__module__.startswith("sqlite3"):
        return False
    return error.connection_invalidated or _NO_CONNECTION.search(str(error.orig).lower()) is not None


def store_is_away(error: BaseException) -> bool:
    """Did a file system's server not answer, or answer that it cannot just now (5xx, slow down)?"""
    causes = list(_causes(error))
    if any(isinstance(one, OSError) and one.errno in _LASTING for one in causes):
        return False
    return any(_no_answer(one) or _busy(_status(one)) for one in causes)


def cause_of(error: BaseException) -> str:
    """In one line."""
    return " ".join(str(getattr(error, "orig", None) or error).split()) or type(error).__name__


def _pauses() -> Iterator[float]:
    pause = _PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)  # so that many who wait do not all ask at once
        pause = min(1.5 * pause, _LONGEST_PAUSE)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _no_answer(error: BaseException) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "SSLError" in names:  # a certificate does not become valid by waiting
        return False
    passing = isinstance(error, OSError) and error.errno in _PASSING
    return passing or isinstance(error, TimeoutError | ConnectionError) or not names.isdisjoint(_NAMES)


def _status(error: Any) -> int | None:
    """The HTTP status in an error of botocore, azure, google or aiohttp."""
    answer = getattr(error, "response", None)
    said = answer.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(answer, dict) else None
    for value in (said, *(getattr(error, name, None) for name in ("status_code", "status", "code"))):
        if isinstance(value, int | str) and str(value).isdigit():
            return int(value)
    return None


def _busy(status: int | None) -> bool:
    return status is not None and (500 <= status < 600 and status != 501 or status in _BUSY)

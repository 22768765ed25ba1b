"""One call of a model: asked by a run, taken and answered by a worker, given to another if nobody answers.

A worker that lives rewrites its claim every few seconds. Who waits compares it with what it read before, by
its own clock: machines need not agree on the time. A call whose claim stands still is asked anew; so is one
that nobody claims, as a worker may have died with it in its hands. The results of models are the same
wherever they are made, so an answer that comes late from a worker given up does no harm.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from contracts import errors
from contracts.errors import InvalidInput, LegionError, ModelError, RemoteError
from flows.workers.codec import decode, encode
from flows.workers.exchange import Exchange

_log = logging.getLogger(__name__)

ARRIVAL_SECONDS = 5.0
"""How long a worker waits for a question that is announced before it is written."""


@dataclass(frozen=True)
class Patience:
    """How long who asks waits for what, in seconds."""

    beat: float = 2.0
    """Between two signs of life of a worker."""
    silent: float = 20.0
    """Without a sign of life, the worker is given up."""
    unclaimed: float = 30.0
    """Until a call that nobody claims is asked anew; twice as long each time."""
    nobody: float = 900.0
    """Until a call that nobody claims fails."""
    poll: tuple[float, float] = (0.03, 0.5)
    """Between two looks for the answer, at first and at most."""


SILENCE_VARIABLE = "LEGION_WORKER_SILENCE"
"""Seconds without a sign of life after which a worker is given up, if not 20."""
TRIES = 5
"""Workers that may be lost over one call."""


def patience(environ: Mapping[str, str] | None = None) -> Patience:
    """As LEGION_WORKER_SILENCE says. Raises InvalidInput for less than a second or more than an hour."""
    text = (os.environ if environ is None else environ).get(SILENCE_VARIABLE)
    if not text:
        return Patience()
    try:
        silent = float(text)
    except ValueError:
        silent = 0.0
    if not 1 <= silent <= 3600:
        raise InvalidInput(f"{SILENCE_VARIABLE} is {text!r}: write seconds from 1 to 3600")
    return Patience(beat=min(2.0, silent / 5), silent=silent)


class _Silent(Exception):
    """The worker that had the call gave no sign of life."""


class _Unclaimed(Exception):
    """No worker took the call."""


def ask(
    exchange: Exchange,
    announce: Callable[[], str],
    part: str,
    method: str,
    tool: Mapping[str, Any],
    arguments: Mapping[str, Any],
    patience: Patience,
) -> Any:
    """The answer to one call. `announce` tells the workers, and gives the id under which they look for the
    question; `tool` says which tool of its part is meant.

    Raises what the tool raised, and RemoteError if no worker answers.
    """
    question = {
        "part": part,
        "method": method,
        "tool": dict(tool),
        "arguments": encode(arguments, exchange.pictures),
        "beat": patience.beat,
    }
    lost, unclaimed = 0, patience.unclaimed
    waited = 0.0
    while True:
        call = announce()
        try:
            exchange.write(call, "call", question)
            answer = _await(exchange, call, patience, unclaimed)
        except _Silent:
            lost += 1
            _move(exchange, call)
            _log.warning("a worker was lost over a call of the %s; asking another", part)
            if lost == TRIES:
                raise RemoteError(
                    f"{TRIES} workers were lost over one call of the {part}: see their logs, then resume "
                    "the run"
                ) from None
        except _Unclaimed:
            waited, unclaimed = waited + unclaimed, 2 * unclaimed
            _move(exchange, call)
            _log.warning("no worker takes a call of the %s: are all busy?", part)
            if waited >= patience.nobody:
                raise RemoteError(
                    f"no worker takes a call of the {part}: start one with legion worker, then resume the run"
                ) from None
        except BaseException:
            _move(exchange, call)
            raise
        else:
            exchange.remove(call)
            return _result(answer, exchange)


def take(exchange: Exchange, call: str, perform: Callable[[Mapping[str, Any]], Any], worker: str) -> None:
    """A worker's part: read the question, do it while giving signs of life, write the answer.

    Nothing if the question was taken back or is answered already. Raises what `perform` raised, after
    answering with it; what is no Exception, such as a panic of a library in Rust or its `sys.exit`, as a
    ModelError, for it would end the worker.
    """
    question = _arrived(exchange, call)
    if question is None or exchange.read(call, "answer") is not None:
        return
    with _claimed(exchange, call, worker, float(question["beat"])):
        try:
            arguments = decode(question["arguments"], exchange.pictures)
            result = perform({**question, "arguments": arguments})
            answer = {"result": encode(result, exchange.pictures)}
        except KeyboardInterrupt:  # the worker ends: another one takes the call
            raise
        except BaseException as error:
            told = _told(error, worker)
            _tell_here(error)
            exchange.write(call, "answer", {"error": told})
            if isinstance(error, Exception):
                raise
            raise ModelError(told["message"]) from error
        exchange.write(call, "answer", answer)


def _await(exchange: Exchange, call: str, patience: Patience, unclaimed: float) -> dict[str, Any]:
    begun = changed = time.monotonic()
    last: dict[str, Any] | None = None
    pause, most = patience.poll
    while True:
        answer = exchange.read(call, "answer")
        if answer is not None:
            return answer
        now = time.monotonic()
        if now - begun > patience.beat:  # quick answers need no look at the claim
            claim = exchange.read(call, "claim")
            if claim != last:
                last, changed = claim, now
            if last is None and now - begun > unclaimed:
                raise _Unclaimed
            if last is not None and now - changed > patience.silent:
                raise _Silent
        time.sleep(pause)
        pause = min(1.5 * pause, most)


def _move(exchange: Exchange, call: str) -> None:
    """Take a question back; a worker that still comes to it finds that."""
    try:
        exchange.write(call, "moved", {})
        exchange.remove(call, keep="moved")
    except RemoteError as error:
        _log.warning("%s", error)


def _arrived(exchange: Exchange, call: str) -> dict[str, Any] | None:
    end = time.monotonic() + ARRIVAL_SECONDS
    while (question := exchange.read(call, "call")) is None:
        if exchange.read(call, "moved") is not None or time.monotonic() > end:
            return None
        time.sleep(0.05)
    return question


@contextmanager
def _claimed(exchange: Exchange, call: str, worker: str, beat: float) -> Iterator[None]:
    """Signs of life from a thread while the model works."""
    stop = threading.Event()

    def live() -> None:
        number = 1
        while not stop.wait(beat):
            number += 1
            try:
                exchange.write(call, "claim", {"worker": worker, "beat": number})
            except RemoteError as error:
                _log.warning("%s", error)

    exchange.write(call, "claim", {"worker": worker, "beat": 1})
    thread = threading.Thread(target=live, name="legion-worker-claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _told(error: BaseException, worker: str) -> dict[str, str]:
    if isinstance(error, LegionError):
        return {"kind": type(error).__name__, "message": str(error)}
    said = " ".join(str(error).split())[:300]
    what = f"unexpected {type(error).__name__}: {said} (its log shows where)"
    return {"kind": "ModelError", "message": f"worker {worker}: {what}"}


def _tell_here(error: BaseException) -> None:
    """On the worker's own stderr, which is its log: Prefect's loggers are kept quiet there."""
    if isinstance(error, LegionError):
        print(f"error: {error}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)


def _result(answer: Mapping[str, Any], exchange: Exchange) -> Any:
    if "error" not in answer:
        return decode(answer["result"], exchange.pictures)
    kind = getattr(errors, answer["error"]["kind"], None)
    if not isinstance(kind, type) or not issubclass(kind, LegionError):
        kind = ModelError
    raise kind(answer["error"]["message"])

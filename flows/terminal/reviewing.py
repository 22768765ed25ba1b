"""A person is asked about a round in the terminal: what was found and scored, where its picture is, and a
line to answer. Everything goes to stderr; stdout carries results.
"""

from __future__ import annotations

import getpass
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from rich.text import Text

from contracts.errors import InvalidInput, LegionError
from contracts.protocols import MemoryBank
from contracts.records import Review, ReviewDecision, Run, Verdict
from flows.files.output import prepare_folder, score_table
from flows.files.pictures import marked, shown
from flows.jobs.approval import Approval, Ask, review_of
from flows.terminal.console import difference_text, err
from flows.terminal.wording import repair_reason, repair_words, title_of

LETTERS: dict[str, ReviewDecision] = {
    "a": "accept",
    "r": "reject",
    "e": "edit prompt",
    "t": "edit thresholds",
    "g": "gate",
    "s": "stop",
}
MENU = "[a]ccept, [r]eject, [e]dit the next prompt, [t]hresholds, [s]top here, or Enter: leave it to the gate"
HINT = "words after the letter are kept as a note, and after e they are the next prompt"
LIMITS = {"min_confidence": (0.0, 1.0), "dilate_pixels": (0, 4096), "feather_pixels": (0, 4096)}
QUESTIONS = {
    "min_confidence": "findings less sure than this no longer count, 0 to 1",
    "dilate_pixels": "grow the masks by, in pixels",
    "feather_pixels": "soft edge beyond that, in pixels",
}


def ask_in_terminal(
    approval: Approval,
    bank: MemoryBank,
    folder: Path,
    paused: Callable[[], AbstractContextManager[object]] = nullcontext,
    descriptor: int = 0,
) -> Ask:
    """Asks on stderr and reads stdin; the round's picture goes into `folder`, and `paused` stops a progress
    bar meanwhile."""
    lines = Lines(descriptor)

    def ask(run: Run, proposed: Verdict, problem: str) -> Review | None:
        deadline = time.monotonic() + 60 * approval.minutes
        lines.forget()
        with paused():
            if problem:
                _say(f"that cannot be used: {problem}")
            else:
                _show(run, proposed, picture_of_round(run, bank, folder))
            return _answered(run, lines, deadline, approval.minutes)

    return ask


def picture_of_round(run: Run, bank: MemoryBank, folder: Path) -> Path:
    """Writes the last round's picture and, beside it, what was found in it or what the repairs made of it."""
    item = run.rounds[-1]
    before = bank.image(item.image or "")
    findings = item.diagnosis.findings if item.diagnosis else ()
    if run.kind == "inpainting":
        right = shown(bank.image(run.result or item.image or ""))
    else:
        right = marked(before, findings)
    path = prepare_folder(folder) / f"{run.run_id}-round-{item.index}-review.png"
    Pillow.fromarray(np.hstack([np.asarray(shown(before)), np.asarray(right)])).save(path)
    return path


class Lines:
    """Lines of stdin, each waited for so long and no longer.

    A thread reads the descriptor itself: waiting ends in time on every system, and a reader that still waits
    at the end holds no lock of Python's streams.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor = descriptor
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._reading, self._late = False, False
        self._rest = b""

    def forget(self) -> None:
        """What was typed after the time was up answers nothing."""
        while self._late and not self._lines.empty():
            self._lines.get()
            self._reading = False
        self._late = False

    def next(self, deadline: float) -> str | None:
        """The next line, or None when the time is up. Raises LegionError at the end of input."""
        if not self._reading:
            self._reading = True
            threading.Thread(target=self._read, name="stdin", daemon=True).start()
        try:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            self._late = True
            return None
        self._reading = False
        if line is None:
            raise LegionError(
                "nobody can answer, as standard input is closed: use a terminal, or --review-on page"
            )
        return line

    def _read(self) -> None:
        """Put one line into the queue, None at the end."""
        while b"\n" not in self._rest:
            try:
                chunk = os.read(self._descriptor, 4096)
            except OSError:
                chunk = b""
            if not chunk:
                break
            self._rest += chunk
        line, newline, self._rest = self._rest.partition(b"\n")
        self._lines.put(line.decode("utf-8", "replace") if line or newline else None)


def _answered(run: Run, lines: Lines, deadline: float, minutes: float) -> Review | None:
    """What the person says, or None when the time is up. Raises InvalidInput."""
    _say(MENU)
    answer = _asked(lines, f"round {run.rounds[-1].index} of {run.run_id}, {minutes:g} minutes", deadline)
    if answer is None:
        return None
    letter, _, words = answer.partition(" ")
    if letter and letter.lower() not in LETTERS:
        raise InvalidInput(f"{letter!r} is none of {', '.join(LETTERS)}: {HINT}")
    decision = LETTERS[letter.lower()] if letter else "gate"
    if decision == "edit prompt":
        prompt = words.strip() or _asked(lines, "the next prompt", deadline)
        return None if prompt is None else review_of(decision, _me(), prompt)
    if decision == "edit thresholds":
        limits = _limits(run, lines, deadline)
        return None if limits is None else review_of(decision, _me(), "", limits, words)
    return review_of(decision, _me(), note=words)


def _me() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container may run under a number without a name
        return ""


def _limits(run: Run, lines: Lines, deadline: float) -> dict[str, float] | None:
    """The thresholds that the person sets; None when the time is up."""
    limits = {}
    for name in QUESTIONS if run.kind == "inpainting" else ("min_confidence",):
        typed = _asked(lines, f"{QUESTIONS[name]} (Enter: as it is)", deadline)
        if typed is None:
            return None
        if typed.strip():
            limits[name] = _number(typed, *LIMITS[name])
    return limits


def _number(typed: str, least: float, most: float) -> float:
    try:
        value = float(typed)
    except ValueError:
        value = least - 1
    if not least <= value <= most or (most > 1 and value != int(value)):
        kind = "whole number" if most > 1 else "number"
        raise InvalidInput(f"{typed.strip()!r} is no {kind} from {least:g} to {most:g}")
    return value


def _asked(lines: Lines, question: str, deadline: float) -> str | None:
    print(f"{question}> ", end="", file=sys.stderr, flush=True)
    line = lines.next(deadline)
    if line is None:
        _say("")
    return None if line is None else line.strip()


def _show(run: Run, proposed: Verdict, picture: Path) -> None:
    console, item = err(), run.rounds[-1]
    console.print(Text(f"\n{title_of(run)} · round {item.index}", style="bold"))
    if run.kind == "inpainting":
        for number, repair in enumerate(item.repairs or (), start=1):
            found = ", ".join(finding.phrase for finding in repair.plan.findings) or "drawn by hand"
            _say(f"region {number}: {found} · {repair_words(repair)}: {repair_reason(repair)}")
    else:
        before = run.rounds[-2].prompt if len(run.rounds) > 1 else run.prompt
        console.print(Text("prompt: ").append(difference_text(before, item.prompt)))
        for number, finding in enumerate(item.diagnosis.findings if item.diagnosis else (), start=1):
            sure = f"({finding.category}, {finding.confidence:.0%} sure)"
            _say(f"found {number}: {finding.phrase} {sure}: {finding.explanation}")
    _say("scores: " + ", ".join(f"{name} {value:.3f}" for name, value in score_table(item).items()))
    _say(f"picture: {picture}")
    end = f"; the run would end here: {proposed.stop}" if proposed.stop else ""
    _say(f"the gate would {'accept' if proposed.accepted else 'reject'} it: {proposed.reason}{end}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

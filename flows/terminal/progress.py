"""What moves in the terminal while something is under way, on stderr; where that is no terminal, lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from controller.regeneration import STEPS
from controller.steps import Event, StepFinished, StepStarted
from flows.terminal.console import err
from flows.terminal.wording import step_words


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner on stderr while something slow happens; nothing where stderr is no terminal."""
    console = err()
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr, moved by one of `total` by each call of what is yielded; where stderr is no terminal,
    a line at every tenth.
    """
    console = err()
    if not console.is_terminal:
        yield _counted_lines(what, total)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _counted_lines(what: str, total: int) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done * 10 // total > (done - 1) * 10 // total:
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    return advance


class _Bar:
    """A bar of one job, from 0 to `total`, with a sentence about what is done at the moment."""

    def __init__(self, total: float, width: int) -> None:
        self._console = err()
        self._live = self._console.is_terminal
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=width),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("getting ready", total=total)

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(Text(text), soft_wrap=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No bar while the context lasts: somebody is asked."""
        self._bar.stop()
        try:
            yield
        finally:
            self._bar.start()

    @contextmanager
    def shown(self) -> Iterator[Self]:
        """Show the bar while the context lasts."""
        with self._bar:
            yield self

    def _line(self, words: str) -> None:
        """In place of a bar, where there is none."""
        if not self._live:
            print(words, file=sys.stderr, flush=True)


class RunProgress(_Bar):
    """Moved by the events of the loop; where stderr is no terminal, each step is a line."""

    def __init__(self, rounds: int, share: Callable[[StepFinished, int], float] | None = None) -> None:
        """`rounds` at most; `share` says how much of them is behind an event, 0..1 (`share_done` if None)."""
        super().__init__(total=1.0, width=30)
        self._share = share_done if share is None else share
        self._rounds = rounds

    def listen(self, event: Event) -> None:
        """Take an event of the loop."""
        if isinstance(event, StepStarted):
            words = step_words(event.step, event.round, event.total, event.noun)
            self._bar.update(self._task, description=words)
            self._line(words)
        elif isinstance(event, StepFinished):
            done = max(self._bar.tasks[0].completed, self._share(event, self._rounds))
            self._bar.update(self._task, completed=done)


def share_done(event: StepFinished, rounds: int) -> float:
    """How much of a job of so many rounds is behind this event, 0..1."""
    steps = STEPS.index(event.step) + event.done / event.total
    return (event.round - 1 + steps / len(STEPS)) / rounds


class BenchmarkProgress(_Bar):
    """Over all arms of all shares; where stderr is no terminal, a line for each of them."""

    def __init__(self, shares: int, arms: int) -> None:
        super().__init__(total=shares * arms, width=24)
        self._shares, self._total = shares, shares * arms
        self._begun: dict[tuple[int, str], None] = {}
        self._start = time.monotonic()

    def listen(self, share: int, arm: str, event: Any) -> None:
        """Take an event of a loop that works on a share (counted from 0) for an arm."""
        if not isinstance(event, StepStarted):
            return
        if (share, arm) not in self._begun:
            self._begun[share, arm] = None
            self._line(f"share {share + 1} of {self._shares} · {arm}{self._left()}")
        words = f"{arm} · {step_words(event.step, event.round, event.total, event.noun)}"
        self._bar.update(self._task, description=words, completed=len(self._begun) - 1)

    def _left(self) -> str:
        """How long the rest may take, once there is something to go by."""
        done = len(self._begun) - 1
        if done < 1:
            return ""
        seconds = (time.monotonic() - self._start) / done * (self._total - done)
        return f" · about {seconds / 60:.0f} min left" if seconds >= 60 else ""

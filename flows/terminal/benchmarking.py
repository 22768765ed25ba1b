"""What a person sees while a benchmark runs: which step is under way, and how much of the work is begun."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from controller.steps import StepStarted
from flows.benchmark.tables import Titled
from flows.terminal.console import err
from flows.terminal.evaluating import print_table
from flows.terminal.wording import step_words

HARD_SPACE = "\N{NO-BREAK SPACE}"


class BenchmarkProgress:
    """A bar over all arms of all shares; where stderr is no terminal, a line for each of them."""

    def __init__(self, shares: int, arms: int) -> None:
        self._console = err()
        self._live = self._console.is_terminal
        self._shares, self._total = shares, shares * arms
        self._begun: dict[tuple[int, str], None] = {}
        self._start = time.monotonic()
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._live,
        )
        self._task = self._bar.add_task("getting ready", total=self._total)

    def listen(self, share: int, arm: str, event: Any) -> None:
        """Take an event of a loop that works on a share (counted from 0) for an arm."""
        if not isinstance(event, StepStarted):
            return
        if (share, arm) not in self._begun:
            self._begun[share, arm] = None
            if not self._live:
                print(
                    f"share {share + 1} of {self._shares} · {arm}{self._left()}", file=sys.stderr, flush=True
                )
        words = f"{arm} · {step_words(event.step, event.round, event.total, event.noun)}"
        self._bar.update(self._task, description=words, completed=len(self._begun) - 1)

    def _left(self) -> str:
        """How long the rest may take, once there is something to go by."""
        done = len(self._begun) - 1
        if done < 1:
            return ""
        seconds = (time.monotonic() - self._start) / done * (self._total - done)
        return f" · about {seconds / 60:.0f} min left" if seconds >= 60 else ""

    @contextmanager
    def shown(self) -> Iterator[BenchmarkProgress]:
        """The bar is on the terminal as long as this lasts."""
        with self._bar:
            yield self


def print_tables(tables: Sequence[Titled]) -> None:
    """Tables on stdout. In a narrow terminal a cell breaks before its interval and nowhere else; an arm is
    named in the first of its rows."""
    for titled in tables:
        above: Sequence[str] = ("",)
        lines = []
        for line in titled.table.lines:
            first = "" if line[0] == above[0] else line[0]
            lines.append((first, *(_unbroken(cell) for cell in line[1:])))
            above = line
        print_table(titled.title, titled.table.head, lines)


def _unbroken(cell: str) -> str:
    value, bracket, interval = cell.rpartition(" [")
    if not bracket:
        return cell
    return f"{value.replace(' ', HARD_SPACE)} [{interval.replace(' ', HARD_SPACE)}"

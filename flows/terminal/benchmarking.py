"""What a person sees while a benchmark runs: which step is under way, and how much of the work is begun."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from controller.steps import StepStarted
from flows.benchmark.tables import Titled
from flows.terminal.console import err, out
from flows.terminal.evaluating import print_table
from flows.terminal.wording import step_words


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

    def say(self, text: str) -> None:
        """A line above the bar."""
        self._console.print(Text(text), soft_wrap=True)

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
    """Tables on stdout; an arm is named in the first of its rows. Where a table is too wide for the terminal,
    intervals go below their values."""
    for titled in tables:
        head, lines = titled.table.head, _named_once(titled.table.lines)
        if _width([head, *lines]) > out().width:
            lines = [[cell.replace(" [", "\n[") for cell in line] for line in lines]
        print_table(titled.title, head, lines)


def _named_once(lines: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """The lines without first cells that repeat the one above."""
    above = ["", *(line[0] for line in lines)]
    return [
        ("" if line[0] == before else line[0], *line[1:]) for before, line in zip(above, lines, strict=False)
    ]


def _width(lines: Sequence[Sequence[str]]) -> int:
    """Columns that a table takes with its borders, no cell broken."""
    return 1 + sum(3 + max(len(line[column]) for line in lines) for column in range(len(lines[0])))

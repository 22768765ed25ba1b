"""What a person reads of a benchmark in the terminal: its tables."""

from __future__ import annotations

from collections.abc import Sequence

from flows.benchmark.tables import Titled
from flows.terminal.console import out
from flows.terminal.evaluating import print_table


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

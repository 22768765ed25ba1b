"""Tables of figures in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from flows.terminal.console import out


def print_table(title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table of text on stdout, its first column named and the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for number, name in enumerate(head):
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    out().print(table)

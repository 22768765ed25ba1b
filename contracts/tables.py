"""A table of text, as reports of every room show it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Text, cell by cell; the first cell of a line names it."""

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """The table in Markdown, numbers to the right. A bar or a line's end in a cell is kept from being one
        of the table's."""
        rule = ["---", *["---:"] * (len(self.head) - 1)]
        lines = (rule, *(map(_cell, line) for line in self.lines))
        return "\n".join("| " + " | ".join(line) + " |" for line in (map(_cell, self.head), *lines))


def _cell(said: str) -> str:
    return " ".join(said.replace("|", "\\|").splitlines())

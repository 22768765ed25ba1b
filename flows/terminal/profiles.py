"""The table of `legion profiles`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from flows.terminal.console import out

GAP = 2
"""Columns of space between two columns of the table."""
WIDEST_SCORERS = 17
ALWAYS = ("profile", "painter; below it, for regions", "size", "steps, guidance")
"""What a narrow terminal shows too; the others are left out from the right."""


def print_profiles(rows: Sequence[Mapping[str, Any]]) -> None:
    """One or two lines for each profile, the second for regions where they are painted in another way. What
    is the same in all profiles has no column, and what does not fit into the terminal is named below."""
    cells = [_cells(row) for row in rows]
    told = [head for head in cells[0] if head in ALWAYS or len({cell[head] for cell in cells}) > 1]
    shown = _fitting(told, cells, out().width)
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for head in shown:
        table.add_column(Text(head), no_wrap=True, overflow="ignore")
    for cell in cells:
        table.add_row(*(Text(cell[head], style="bold" if head == shown[0] else "") for head in shown))
    out().print(table)
    if hidden := told[len(shown) :]:
        print(f"A wider terminal also shows: {', '.join(hidden)}.")


def _cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A profile's texts by column."""
    own = row["inpainter"] is not None
    painting = _sampling(row["steps"], row["guidance"])
    repairing = _sampling(row["region_steps"], row["region_guidance"])
    square = row["width"] == row["height"]
    size = f"{row['width']} px" if square else f"{row['width']} x {row['height']}"
    parts = {
        "profile": (row["name"], ""),
        ALWAYS[1]: (row["generator"], row["inpainter"] if own else ""),
        "size": (size if row["width"] else "its own", ""),
        "steps, guidance": (painting, repairing if repairing != painting or own else ""),
        "precision": (row["dtype"] or "the server's", ""),
        "offload": (row["offload"] or "the server's", ""),
        "scorers": textwrap.wrap(", ".join(row["scorers"]), WIDEST_SCORERS, break_long_words=False),
        "prompts by": (row["modifier"], ""),
        "defender": (row["defender"], ""),
    }
    return {head: "\n".join(lines).rstrip("\n") for head, lines in parts.items()}


def _sampling(steps: int | None, guidance: float | None) -> str:
    said = "its own" if steps is None else str(steps), "its own" if guidance is None else f"{guidance:g}"
    return said[0] if said == ("its own", "its own") else ", ".join(said)


def _fitting(heads: Sequence[str], cells: Sequence[Mapping[str, str]], width: int) -> list[str]:
    """The first columns that are no wider than the terminal, at least those that are always shown."""
    shown: list[str] = []
    for head in heads:
        lines = [head, *(line for cell in cells for line in cell[head].splitlines())]
        width -= max(map(len, lines)) + (GAP if shown else 0)
        if width < 0 and head not in ALWAYS:
            break
        shown.append(head)
    return shown

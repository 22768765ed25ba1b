"""The answer as one picture for a README or a paper: differences and curves of the measure that answers it.

A self-contained SVG file in light colors, which fetches nothing.
"""

from __future__ import annotations

import textwrap
from typing import Any

from flows.benchmark.curves import HEIGHT, WIDTH, whiskers_height
from flows.benchmark.page import charts, forests, legend, verdict
from flows.benchmark.tables import Figures, title
from flows.pages.report import page_template

TEMPLATE = "benchmark.svg.j2"
MARGIN, GAP = 24, 32
LINE = 20
"""Between lines of text, in pixels."""
ACROSS = 2 * WIDTH + GAP + 2 * MARGIN
CHARACTERS = 118
"""Of the answer that fit side by side."""
LETTER = 7.5
"""Pixels of one in the legend."""


def picture(found: Figures) -> str:
    """The picture as SVG text."""
    said = textwrap.wrap(verdict(found), CHARACTERS)
    top = MARGIN + 34 + LINE * (len(said) + 1) + GAP
    panels: list[dict[str, Any]] = []
    differences = list(forests(found))
    for number, forest in enumerate(differences):
        panels.append(_panel(number, top, f"against {forest['other']}", forest["svg"]))
    if differences:
        top += max(whiskers_height(forest["rows"]) for forest in differences) + GAP + LINE
    words, legend_top = _legend(found, top), top
    chart = next(charts(found), None)
    if chart is not None:
        top += LINE * (1 + words[-1]["line"]) + GAP
        for number, across in enumerate(("calls", "seconds")):
            panels.append(_panel(number, top, f"{chart['name']} by {_AXES[across]}", chart[across]))
        top += HEIGHT
    return page_template(TEMPLATE).render(
        width=ACROSS,
        height=top + MARGIN,
        margin=MARGIN,
        line=LINE,
        said=said,
        title=title(found.results),
        panels=panels,
        legend=words if chart is not None else [],
        legend_top=legend_top,
    )


_AXES = {"calls": "generator calls", "seconds": "model seconds"}


def _panel(number: int, top: float, name: str, svg: str) -> dict[str, Any]:
    return {"x": MARGIN + number * (WIDTH + GAP), "y": top, "name": name, "svg": svg}


def _legend(found: Figures, top: float) -> list[dict[str, Any]]:
    """Each arm's name and color and where they stand, line by line."""
    words: list[dict[str, Any]] = []
    x, line = float(MARGIN), 0
    for name, color in legend(found.results):
        width = 34 + LETTER * len(name)
        if x + width > ACROSS - MARGIN:
            x, line = float(MARGIN), line + 1
        words.append({"name": name, "color": color, "x": x, "y": top + LINE * line, "line": line})
        x += width
    return words

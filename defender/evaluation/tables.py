"""One table of figures, as cells for a terminal, as Markdown and as JSON; published figures stand beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from contracts.tables import Table
from defender.evaluation.figures import Figure
from defender.evaluation.reported import Reported

EMPTY = ""
REMARKS = {
    "all": "Percent, with 95 % bootstrap intervals over pictures.",
    "localization": "mIoU, F1 and gIoU are averaged over the pictures with artifacts; cIoU sums their areas.",
    "explanation": "A picture whose artifacts were all missed counts as 0, except among matched artifacts.",
    "detection": "Accuracy at a probability of 0.5; the mean gives every generator the same weight.",
    "robustness": "mIoU and F1 averaged by picture; losses are points against the same pictures undamaged.",
    "guidance": "The true answer is given; losses are points of F1 per artifact.",
}
"""What has to be said below a table."""


def table_of(
    figures: Sequence[Figure], across: Literal["groups", "figures"], reported: Sequence[Reported]
) -> Table:
    """Groups of pictures side by side and figures below each other, or the other way round."""
    if across == "groups":
        return _groups_across(figures, reported)
    return _figures_across(figures, reported)


def cell(figure: Figure | None) -> str:
    """Percent (or points, with their sign), and the 95 % interval: `85.5 [83.1, 87.2]`."""
    if figure is None:
        return EMPTY
    value = figure.interval
    sign = "+" if figure.difference else ""
    return f"{100 * value.mean:{sign}.1f} [{100 * value.low:{sign}.1f}, {100 * value.high:{sign}.1f}]"


def to_json(figures: Sequence[Figure], reported: Sequence[Reported]) -> dict[str, Any]:
    """The figures as shares of 1 with their intervals, and what was reported, in percent as published."""
    return {
        "figures": [
            {
                "group": figure.group,
                "figure": figure.name,
                "value": figure.interval.mean,
                "low": figure.interval.low,
                "high": figure.interval.high,
                "pictures": figure.pictures,
            }
            for figure in figures
        ],
        "reported": [
            {
                "who": row.who,
                "source": row.source,
                "percent": [
                    {"group": group, "figure": name, "value": value}
                    for (group, name), value in row.values.items()
                ],
            }
            for row in reported
        ],
    }


def _groups_across(figures: Sequence[Figure], reported: Sequence[Reported]) -> Table:
    groups, names = _labels(figures)
    found = _by_place(figures)
    lines = []
    for name in names:
        counts = [found[group, name].pictures for group in groups if (group, name) in found]
        cells = [cell(found.get((group, name))) for group in groups]
        lines.append((name, *cells, *[_published(row, "", name) for row in reported], f"{max(counts):,}"))
    head = ("percent", *[group or "measured" for group in groups], *[row.who for row in reported], "pictures")
    return Table(head, tuple(lines))


def _figures_across(figures: Sequence[Figure], reported: Sequence[Reported]) -> Table:
    groups, names = _labels(figures)
    found = _by_place(figures)
    beside = [(row, name) for row in reported for name in names if any(n == name for _, n in row.values)]
    lines = []
    for group in groups:
        counts = [figure.pictures for figure in figures if figure.group == group]
        cells = [cell(found.get((group, name))) for name in names]
        published = [_published(row, group, name) for row, name in beside]
        lines.append((group or "all", *cells, *published, f"{max(counts):,}"))
    head = ("percent", *names, *[f"{name}, {row.who}" for row, name in beside], "pictures")
    return Table(head, tuple(lines))


def _labels(figures: Sequence[Figure]) -> tuple[list[str], list[str]]:
    return list(dict.fromkeys(f.group for f in figures)), list(dict.fromkeys(f.name for f in figures))


def _by_place(figures: Sequence[Figure]) -> Mapping[tuple[str, str], Figure]:
    return {(figure.group, figure.name): figure for figure in figures}


def _published(row: Reported, group: str, name: str) -> str:
    value = row.values.get((group, name))
    return EMPTY if value is None else f"{value:.2f}".rstrip("0").rstrip(".")

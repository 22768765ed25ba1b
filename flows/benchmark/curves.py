"""Curves of several arms with their intervals, and differences with whiskers, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from markupsafe import Markup, escape

from contracts.intervals import Interval
from flows.benchmark.figures import CurvePoint
from flows.pages.charts import nice_ticks

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 42
ROW = 36

Place: TypeAlias = Callable[[float], float]
"""From a figure to where it is drawn."""


class Line(NamedTuple):
    """One arm's curve; `color` is its number in the page's palette."""

    name: str
    color: int
    points: Sequence[CurvePoint]


class Whisker(NamedTuple):
    """A difference with its interval."""

    name: str
    color: int
    value: Interval
    said: str


def curves(title: str, across: str, lines: Sequence[Line], whole: bool = False) -> Markup:
    """Quality up, cost along. `lines` may not be empty.

    Costs that are `whole` numbers are the same for all lines, which stand side by side there, a bar for the
    95 % interval of every point; otherwise a band around each line.
    """
    values = [edge for line in lines for p in line.points for edge in (p.value.low, p.value.high)]
    costs = [point.cost for line in lines for point in line.points]
    up = nice_ticks(min(values), max(values))
    most = max(costs) or 1.0  # of pictures that cost nothing
    along = _whole_ticks(most) if whole else [tick for tick in nice_ticks(0.0, most) if tick <= most]
    y = _scale(up, HEIGHT - BOTTOM, TOP)
    x = _scale((0.5, most + 0.5) if whole else (0.0, most), LEFT, WIDTH - RIGHT)
    body = [_grid(up, y), _foot(along, x, across)]
    if not whole:
        body += [_band(line, x, y) for line in lines]
    for number, line in enumerate(lines):
        aside = (number - (len(lines) - 1) / 2) * min(5.0, 40 / len(lines)) if whole else 0.0
        body += [_bars(line, _moved(x, aside), y)] if whole else []
        body.append(_line(line, _moved(x, aside), y))
    told = "; ".join(f"{line.name} ends at {line.points[-1].value.mean:.3g}" for line in lines)
    return _svg(HEIGHT, f"{title} by {across}. {told}", body)


def whiskers(title: str, rows: Sequence[Whisker], across: str = "difference") -> Markup:
    """Differences below each other, with a line at 0. `rows` may not be empty."""
    edges = [edge for row in rows for edge in (row.value.low, row.value.high)]
    ticks = nice_ticks(min(0.0, *edges), max(0.0, *edges))
    x = _scale((ticks[0], ticks[-1]), LEFT - 30, WIDTH - RIGHT)
    height = whiskers_height(len(rows))
    body = [_whisker(row, TOP + ROW * number, x) for number, row in enumerate(rows)]
    body.append(_foot(ticks, x, across, height))
    told = "; ".join(f"{row.name} {row.said}" for row in rows)
    return _svg(height, f"{title}: {told}", body)


def whiskers_height(rows: int) -> int:
    """Of the drawing of so many differences."""
    return TOP + ROW * rows + BOTTOM - 10


def _scale(ends: Sequence[float], start: float, stop: float) -> Place:
    first, last = ends[0], ends[-1]
    return lambda value: start + (value - first) / (last - first) * (stop - start)


def _moved(place: Place, by: float) -> Place:
    return lambda value: place(value) + by


def _whole_ticks(most: float) -> list[float]:
    every = math.ceil(most / 10)
    return [float(number) for number in range(1, int(most) + 1) if number % every == 0 or every == 1]


def _grid(ticks: Sequence[float], y: Place) -> Markup:
    lines = []
    for tick, text in zip(ticks, _labels(ticks), strict=True):
        at = y(tick)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    return Markup("".join(lines))


def _foot(ticks: Sequence[float], x: Place, across: str, height: int = HEIGHT) -> Markup:
    below = height - 20
    labels = [
        f'<text class="tick" x="{x(tick):.1f}" y="{below}" text-anchor="middle">{text}</text>'
        for tick, text in zip(ticks, _labels(ticks), strict=True)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    labels.append(
        f'<text class="axis" x="{middle}" y="{height - 3}" text-anchor="middle">{escape(across)}</text>'
    )
    return Markup("".join(labels))


def _labels(ticks: Sequence[float]) -> list[str]:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{digits}f}" for tick in ticks]


def _band(line: Line, x: Place, y: Place) -> Markup:
    """Between the lower and the upper ends of the intervals."""
    edges = [(p.cost, p.value.high) for p in line.points]
    edges += [(p.cost, p.value.low) for p in reversed(line.points)]
    path = " ".join(f"{x(cost):.1f},{y(value):.1f}" for cost, value in edges)
    return Markup(f'<polygon class="band c{line.color}" points="{path}"/>')


def _bars(line: Line, x: Place, y: Place) -> Markup:
    return Markup(
        "".join(
            f'<line class="bar c{line.color}" x1="{x(p.cost):.1f}" x2="{x(p.cost):.1f}" '
            f'y1="{y(p.value.low):.1f}" y2="{y(p.value.high):.1f}"/>'
            for p in line.points
        )
    )


def _line(line: Line, x: Place, y: Place) -> Markup:
    path = " ".join(f"{x(p.cost):.1f},{y(p.value.mean):.1f}" for p in line.points)
    dots = "".join(
        f'<circle class="dot c{line.color}" cx="{x(p.cost):.1f}" cy="{y(p.value.mean):.1f}" r="3.5">'
        f"<title>{escape(line.name)}, {p.cost:.3g}: {escape(p.value.plain())}</title></circle>"
        for p in line.points
    )
    return Markup(f'<polyline class="line c{line.color}" points="{path}"/>{dots}')


def _whisker(row: Whisker, top: float, x: Place) -> Markup:
    y = top + ROW - 8
    zero, low, high, mean = (x(value) for value in (0.0, row.value.low, row.value.high, row.value.mean))
    return Markup(
        # Beside each whisker alone: through the whole height it would cross the names.
        f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{y - 9:.1f}" y2="{y + 9:.1f}"/>'
        f'<text class="name" x="0" y="{top + 14:.0f}">{escape(row.name)}</text>'
        f'<text class="tick" x="{WIDTH}" y="{top + 14:.0f}" text-anchor="end">{escape(row.said)}</text>'
        f'<line class="line c{row.color}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle class="dot c{row.color}" cx="{mean:.1f}" cy="{y:.1f}" r="5"/>'
    )


def _svg(height: float, told: str, body: Sequence[Markup]) -> Markup:
    size = Markup('width="{0}" height="{1}" viewBox="0 0 {0} {1}"').format(WIDTH, height)
    return Markup('<svg class="chart" {} role="img" aria-label="{}">{}</svg>').format(
        size, told, Markup("").join(body)
    )

"""Curves of several arms with their intervals, and differences with whiskers, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from contracts.intervals import Interval
from flows.benchmark.figures import CurvePoint
from flows.pages.charts import nice_ticks

WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 42
ROW = 34


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


def curves(title: str, across: str, lines: Sequence[Line]) -> Markup:
    """Quality up, cost along; a band is a line's 95 % interval. `lines` may not be empty."""
    values = [edge for line in lines for p in line.points for edge in (p.value.low, p.value.high)]
    costs = [point.cost for line in lines for point in line.points]
    up, along = nice_ticks(min(values), max(values)), nice_ticks(min(0.0, *costs), max(costs))
    x, y = _scale(along, LEFT, WIDTH - RIGHT), _scale(up, HEIGHT - BOTTOM, TOP)
    body = [_grid(up, y), _foot(along, x, across)]
    body += [_band(line, x, y) for line in lines]
    body += [_line(line, x, y) for line in lines]
    told = "; ".join(f"{line.name} ends at {line.points[-1].value.mean:.3g}" for line in lines)
    return _svg(HEIGHT, f"{title} by {across}. {told}", body)


def whiskers(title: str, rows: Sequence[Whisker]) -> Markup:
    """Differences below each other, with a line at 0. `rows` may not be empty."""
    edges = [edge for row in rows for edge in (row.value.low, row.value.high)]
    ticks = nice_ticks(min(0.0, *edges), max(0.0, *edges))
    x = _scale(ticks, LEFT - 30, WIDTH - RIGHT)
    height = TOP + ROW * len(rows) + BOTTOM - 10
    zero = x(0.0)
    body = [Markup(f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{TOP}" y2="{height - 32}"/>')]
    body += [_whisker(row, TOP + ROW * number, x) for number, row in enumerate(rows)]
    body.append(_foot(ticks, x, "difference", height))
    told = "; ".join(f"{row.name} {row.said}" for row in rows)
    return _svg(height, f"{title}: {told}", body)


def _scale(ticks: Sequence[float], start: float, stop: float):  # type: ignore[no-untyped-def]
    first, last = ticks[0], ticks[-1]
    return lambda value: start + (value - first) / (last - first) * (stop - start)


def _grid(ticks: Sequence[float], y) -> Markup:  # type: ignore[no-untyped-def]
    lines = []
    for tick, text in zip(ticks, _labels(ticks), strict=True):
        at = y(tick)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    return Markup("".join(lines))


def _foot(ticks: Sequence[float], x, across: str, height: int = HEIGHT) -> Markup:  # type: ignore[no-untyped-def]
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
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return [f"{tick:.{digits}f}" for tick in ticks]


def _band(line: Line, x, y) -> Markup:  # type: ignore[no-untyped-def]
    upper = [f"{x(p.cost):.1f},{y(p.value.high):.1f}" for p in line.points]
    lower = [f"{x(p.cost):.1f},{y(p.value.low):.1f}" for p in reversed(line.points)]
    return Markup(f'<polygon class="band c{line.color}" points="{" ".join([*upper, *lower])}"/>')


def _line(line: Line, x, y) -> Markup:  # type: ignore[no-untyped-def]
    path = " ".join(f"{x(p.cost):.1f},{y(p.value.mean):.1f}" for p in line.points)
    dots = "".join(
        f'<circle class="dot c{line.color}" cx="{x(p.cost):.1f}" cy="{y(p.value.mean):.1f}" r="3.5">'
        f"<title>{escape(line.name)}, {p.cost:.3g}: {escape(p.value.plain())}</title></circle>"
        for p in line.points
    )
    return Markup(f'<polyline class="line c{line.color}" points="{path}"/>{dots}')


def _whisker(row: Whisker, top: float, x) -> Markup:  # type: ignore[no-untyped-def]
    y = top + ROW - 10
    low, high, mean = (x(value) for value in (row.value.low, row.value.high, row.value.mean))
    return Markup(
        f'<text class="name" x="0" y="{top + 12:.0f}">{escape(row.name)}</text>'
        f'<text class="tick" x="{WIDTH}" y="{top + 12:.0f}" text-anchor="end">{escape(row.said)}</text>'
        f'<line class="line c{row.color}" x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<circle class="dot c{row.color}" cx="{mean:.1f}" cy="{y:.1f}" r="5"/>'
    )


def _svg(height: float, told: str, body: Sequence[Markup]) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, told, Markup("").join(body)
    )

"""Score curves as inline SVG with a proper axis; one panel per score, since scores do not compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 340, 196
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 16, 40


class Point(NamedTuple):
    """One round in a curve."""

    round: int
    value: float
    accepted: bool
    best: bool


def nice_ticks(low: float, high: float, wanted: int = 4, whole: bool = False) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that enclose low..high; whole numbers only if asked for.

    >>> nice_ticks(0.13, 0.87)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high - low < 1e-4 * max(abs(low), abs(high), 1e-3):  # rounding noise is no curve
        margin = 1.0 if whole else abs(low) * 0.1 if abs(low) > 1e-6 else 0.5
        low, high = max(0.0, low - margin) if whole else low - margin, high + margin
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    step = max(step, 1.0) if whole else step
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def curve(name: str, points: Sequence[Point], whole: bool = False) -> Markup:
    """One panel: rounds along, the score up; filled dots were accepted, hollow ones not, the ringed is best.

    `points` may not be empty and holds finite values.
    """
    values = [point.value for point in points]
    # Counts are read against zero.
    ticks = nice_ticks(0.0 if whole else min(values), max(values), whole=whole)
    body = [_grid(ticks), _round_labels(points), _line(points, ticks)]
    body += [_dot(point, points, ticks) for point in points]
    told = ", ".join(f"round {p.round}: {p.value:.3g}" for p in points)
    return Markup('<svg class="curve" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, f"{name} by round. {told}", Markup("").join(body)
    )


def _x(round_index: int, points: Sequence[Point]) -> float:
    first, last = points[0].round, points[-1].round
    share = 0.5 if last == first else (round_index - first) / (last - first)
    inner = WIDTH - LEFT - RIGHT - 24
    return LEFT + 12 + share * inner


def _y(value: float, ticks: Sequence[float]) -> float:
    return TOP + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)


def _grid(ticks: Sequence[float]) -> Markup:
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    lines = []
    for tick in ticks:
        y = _y(tick, ticks)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(
            f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:.{digits}f}</text>'
        )
    return Markup("".join(lines))


def _round_labels(points: Sequence[Point]) -> Markup:
    every = max(1, math.ceil(len(points) / 8))
    y = HEIGHT - BOTTOM + 23
    labels = [
        f'<text class="tick" x="{_x(p.round, points):.1f}" y="{y}" text-anchor="middle">{p.round}</text>'
        for index, p in enumerate(points)
        if index % every == 0
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    labels.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">round</text>')
    return Markup("".join(labels))


def _line(points: Sequence[Point], ticks: Sequence[float]) -> Markup:
    path = " ".join(f"{_x(p.round, points):.1f},{_y(p.value, ticks):.1f}" for p in points)
    return Markup(f'<polyline class="line" points="{path}"/>')


def _dot(point: Point, points: Sequence[Point], ticks: Sequence[float]) -> Markup:
    x, y = _x(point.round, points), _y(point.value, ticks)
    ring = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="9"/>' if point.best else ""
    kind = "kept" if point.accepted else "rolled"
    told = escape(f"round {point.round}: {point.value:.4g}")
    return Markup(
        f'{ring}<circle class="dot {kind}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{told}</title></circle>'
    )

"""Figures without their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from defender.evaluation.figures import Figure


def means(figures: Iterable[Figure]) -> Mapping[str, float]:
    """Names and values alone, of figures that are not divided into groups."""
    return {figure.name: figure.interval.mean for figure in figures}

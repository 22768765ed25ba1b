"""Detection: real or generated, by generator.

As in UniversalFakeDetect (arXiv 2302.10174), each generator is judged with its own real pictures, and the
mean over generators gives each of them the same weight. Accuracy is at a probability of 0.5; average
precision needs no threshold, and ranks generated above real.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import InvalidInput
from contracts.intervals import Statistic, ratio
from contracts.protocols import Defender
from contracts.records import Diagnosis
from defender.evaluation.figures import Figure, Row, figure_of, mean_of
from defender.evaluation.pictures import Picture, diagnosed

BINS = 10
"""Equal parts of 0..1 for the calibration error."""


def wanted(picture: Picture) -> bool:
    """Pictures of which it is known."""
    return picture.sample.is_real is not None


def look(defender: Defender, pictures: Sequence[Picture]) -> Iterator[Row]:
    """Diagnose. Raises InvalidInput if the defender has no word on whether a picture is real."""
    return diagnosed(defender, pictures, measure)


def measure(picture: Picture, diagnosis: Diagnosis) -> Row:
    """One picture's row: what it is, and how likely the defender holds it to be generated."""
    if diagnosis.synthetic_probability is None:
        raise InvalidInput(
            "this defender has no trained detection head, so it cannot tell real from generated: "
            "train stage 2, or choose another checkpoint"
        )
    return {"real": picture.sample.is_real, "synthetic": diagnosis.synthetic_probability}


def figures(rows: Sequence[Row], families: Mapping[str, Sequence[str]] | None = None) -> list[Figure]:
    """Figures of each generator, of each family of generators, of their mean, and of all pictures at once."""
    groups = list(dict.fromkeys(row["group"] for row in rows))
    found = [figure for group in groups for figure in _of_group(group, rows, [group])]
    for family, members in (families or {}).items():
        there = [group for group in groups if group.casefold() in members]
        if there and there != [family]:
            found += _of_group(family, rows, there)
    if len(groups) > 1:
        found += _of_group("mean of generators", rows, groups)
    return found


def _of_group(label: str, rows: Sequence[Row], groups: Sequence[str]) -> list[Figure]:
    mine = [row for row in rows if row["group"] in groups]
    real = np.array([row["real"] for row in mine], bool)
    probability = np.array([row["synthetic"] for row in mine], float)
    right = (probability < 0.5) == real
    members = [np.flatnonzero([row["group"] == group for row in mine]) for group in groups]
    accuracies = [ratio(right[own], np.ones(len(own))) for own in members]
    precisions = [average_precision(probability[own], ~real[own]) for own in members]
    return [
        *figure_of(label, "accuracy", _average(accuracies, members), len(mine)),
        *figure_of(label, "average precision", _average(precisions, members), len(mine)),
        *mean_of(label, "real called real", right[real]),
        *mean_of(label, "generated called generated", right[~real]),
        *figure_of(label, "calibration error", calibration_error(probability, ~real), len(mine)),
    ]


def _average(statistics: Sequence[Statistic], members: Sequence[NDArray[np.intp]]) -> Statistic:
    """The unweighted mean of a statistic over groups of the pictures."""

    def of(counts_RN: NDArray[np.float64]) -> NDArray[np.float64]:
        parts = [statistic(counts_RN[:, own]) for statistic, own in zip(statistics, members, strict=True)]
        return np.mean(parts, axis=0, dtype=float)

    return of


def average_precision(score: ArrayLike, positive: ArrayLike) -> Statistic:
    """Area under precision over recall, as a sum over the distinct scores, highest first.

    `positive` says what should rank high. nan for a draw without positives.
    """
    scores, wanted = np.asarray(score, float), np.asarray(positive, float)
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # ties are taken all at once

    def of(counts_RN: NDArray[np.float64]) -> NDArray[np.float64]:
        drawn = counts_RN[:, order]
        hits = np.cumsum(drawn * wanted[order], axis=1)[:, ends]
        taken = np.cumsum(drawn, axis=1)[:, ends]
        gained = np.diff(hits, axis=1, prepend=0)
        return _divide((gained * _divide(hits, taken, 0.0)).sum(axis=1), hits[:, -1])

    return of


def calibration_error(probability: ArrayLike, happened: ArrayLike) -> Statistic:
    """Mean distance between the probability said and the share that came true, over BINS equal bins."""
    said, true = np.asarray(probability, float), np.asarray(happened, float)
    bin_of = np.minimum((said * BINS).astype(int), BINS - 1)
    inside_NB = np.eye(BINS)[bin_of]

    def of(counts_RN: NDArray[np.float64]) -> NDArray[np.float64]:
        gap_RB = np.abs((counts_RN * (said - true)) @ inside_NB)
        return _divide(gap_RB.sum(axis=1), counts_RN.sum(axis=1))

    return of


def _divide(
    over: NDArray[np.float64], under: NDArray[np.float64], otherwise: float = np.nan
) -> NDArray[np.float64]:
    return np.divide(over, under, out=np.full(np.shape(over), otherwise), where=under != 0)

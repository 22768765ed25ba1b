"""Robustness: localization again on damaged pictures, and what it loses against the undamaged ones.

Losses are of the same pictures, so their intervals are those of paired differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from contracts.protocols import Defender
from defender.evaluation import localization
from defender.evaluation.figures import Figure, Row, mean_of
from defender.evaluation.perturbations import AS_IT_IS, PERTURBATIONS
from defender.evaluation.pictures import Picture

WORST = "worst"
"""The row of the setting that loses most."""

wanted = localization.wanted


def look(defender: Defender, pictures: Sequence[Picture]) -> Iterator[Row]:
    """Diagnose each picture as it is and at every strength of every damage."""
    by_setting = {}
    for perturbation in PERTURBATIONS:
        damaged = [
            replace(p, sample=replace(p.sample, image=perturbation.apply(p.sample.image, p.name)))
            for p in pictures
        ]
        by_setting[perturbation.name] = list(localization.look(defender, damaged))
    for i, picture in enumerate(pictures):
        rows = {name: measured[i] for name, measured in by_setting.items()}
        yield {
            **picture.head,
            "settings": {
                name: {key: row[key] for key in ("clean", "findings", "mIoU", "F1") if key in row}
                for name, row in rows.items()
            },
        }


def figures(rows: Sequence[Row]) -> list[Figure]:
    """mIoU, F1, points of F1 lost and false alarms at every setting, and the largest loss once more."""
    found = []
    for perturbation in PERTURBATIONS:
        name = perturbation.name
        now = [row["settings"][name] for row in rows]
        before = [row["settings"][AS_IT_IS] for row in rows]
        lost = [b["F1"] - n["F1"] for b, n in zip(before, now, strict=True) if "F1" in n]
        flawed = [row for row in now if "F1" in row]
        found += mean_of(name, "mIoU", [row["mIoU"] for row in flawed])
        found += mean_of(name, "F1", [row["F1"] for row in flawed])
        found += mean_of(name, "F1 lost", lost, difference=True) if name != AS_IT_IS else []
        found += localization.false_alarms(name, now)
    worst = _worst(found)
    return [*found, replace(worst, group=WORST)] if worst else found


def conclusion(figures: Sequence[Figure]) -> str:
    """Which setting loses most, and how much, as a sentence; "" where no picture has artifacts."""
    worst = _worst([figure for figure in figures if figure.group != WORST])
    if worst is None:
        return ""
    lost, low, high = (100 * x for x in (worst.interval.mean, worst.interval.low, worst.interval.high))
    return f"Worst is {worst.group}, which costs {lost:.1f} points of F1 [{low:.1f}, {high:.1f}]."


def _worst(figures: Sequence[Figure]) -> Figure | None:
    return max((f for f in figures if f.difference), key=lambda f: f.interval.mean, default=None)

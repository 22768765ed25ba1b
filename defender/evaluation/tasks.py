"""The five evaluations, and the loop that all of them share: read, look, one row per picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from contracts.errors import ModelError
from contracts.protocols import Defender
from defender.evaluation import detection, explanation, guidance, localization, robustness
from defender.evaluation.figures import Figure, Row
from defender.evaluation.pictures import AT_ONCE, Picture, Source, Unreadable, read


@dataclass(frozen=True)
class Task:
    """One evaluation."""

    name: str
    wanted: Callable[[Picture], bool]
    """Which pictures can be evaluated at all."""
    needs: str
    """What those pictures have, for a message when there are none."""
    look: Callable[[Defender, Sequence[Picture]], Iterator[Row]]
    figures: Callable[[Sequence[Row]], list[Figure]]
    across: Literal["groups", "figures"]
    """What the columns of its table are: groups of pictures, or figures."""


TASKS = {
    task.name: task
    for task in (
        Task(
            "localization",
            localization.wanted,
            "annotated artifacts, or are known to have none",
            localization.look,
            localization.figures,
            "groups",
        ),
        Task(
            "explanation",
            explanation.wanted,
            "artifacts explained in words",
            explanation.look,
            explanation.figures,
            "groups",
        ),
        Task(
            "detection",
            detection.wanted,
            "a label that says real or generated",
            detection.look,
            detection.figures,
            "figures",
        ),
        Task(
            "robustness",
            robustness.wanted,
            "annotated artifacts, or are known to have none",
            robustness.look,
            robustness.figures,
            "figures",
        ),
        Task("guidance", guidance.wanted, "two or more artifacts", guidance.look, guidance.figures, "groups"),
    )
}


def rows_of(
    task: Task, defender: Defender, source: Source, indices: Sequence[int], done: frozenset[int] = frozenset()
) -> Iterator[list[Row]]:
    """Rows of the pictures at `indices`, AT_ONCE at a time; those that are `done` already are not repeated.

    Every index gives exactly one row: what was measured, or {"error": reason} where the picture cannot be
    read or the defender fails on it, or {"left_out": true} where it has nothing to measure. What is looked
    at together depends on `indices` alone, so a run that was interrupted gives the same rows as one that was
    not.
    """
    for start in range(0, len(indices), AT_ONCE):
        together = indices[start : start + AT_ONCE]
        if done.issuperset(together):
            continue
        read_ones = [read(source, index) for index in together]
        pictures = [p for p in read_ones if isinstance(p, Picture) and task.wanted(p)]
        rows = {row["index"]: row for row in _look(task, defender, pictures)}
        yield [rows.get(p.index) or _without_figures(p) for p in read_ones]


def _look(task: Task, defender: Defender, pictures: Sequence[Picture]) -> list[Row]:
    """Rows of some pictures; where the defender fails they are tried one by one, so one costs no others."""
    if not pictures:
        return []
    try:
        return list(task.look(defender, pictures))
    except ModelError as error:
        if len(pictures) == 1:
            (picture,) = pictures
            reason = f"{picture.name}: {' '.join(str(error).split())}"
            return [_without_figures(Unreadable(picture.index, picture.name, reason))]
        return [row for picture in pictures for row in _look(task, defender, [picture])]


def measured(rows: Sequence[Row]) -> list[Row]:
    """The rows that figures are made of."""
    return [row for row in rows if "error" not in row and "left_out" not in row]


def _without_figures(picture: Picture | Unreadable) -> Row:
    if isinstance(picture, Unreadable):
        return {"index": picture.index, "name": picture.name, "error": picture.reason}
    return {"index": picture.index, "name": picture.name, "left_out": True}

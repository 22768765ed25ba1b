"""Localization: where the artifacts are, and whether each mask belongs to its own phrase.

mIoU and F1 follow the paper (arXiv 2503.15264, section 5): the union of all predicted masks against the
union of all true ones; mIoU is the mean of foreground and background IoU, F1 that of the foreground; both
averaged over the pictures that have artifacts. gIoU averages the foreground IoU over the same pictures, cIoU
divides the intersection of all of them by their union.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contracts.protocols import Defender
from contracts.records import Diagnosis, Finding
from defender.answers import UNNAMED
from defender.evaluation.figures import Figure, Row, by_group, mean_of, mean_of_lists, ratio_of
from defender.evaluation.metrics import foreground_f1, iou, match, mean_iou, nouns
from defender.evaluation.pictures import Picture, diagnosed

SMALL = 0.01
"""Artifacts that cover less of the picture are counted apart as well."""
FOUND = 0.5
"""IoU from which a finding counts as having found an artifact."""


def wanted(picture: Picture) -> bool:
    """Pictures whose artifacts are known, or known to be none."""
    return picture.clean or bool(picture.sample.findings)


def look(defender: Defender, pictures: Sequence[Picture]) -> Iterator[Row]:
    """Diagnose and compare."""
    return diagnosed(defender, pictures, measure)


def measure(picture: Picture, diagnosis: Diagnosis) -> Row:
    """One picture's row: overlap of the unions, and one entry per true artifact."""
    sample = picture.sample
    row: Row = {"clean": picture.clean, "findings": len(diagnosis.findings)}
    if not sample.findings:
        return row
    shape = (sample.image.shape[0], sample.image.shape[1])
    predicted, true = diagnosis.union(shape), Diagnosis(sample.findings).union(shape)
    pairs = {id(wanted): found for wanted, found in match(diagnosis.findings, sample.findings)}
    return {
        **row,
        "mIoU": mean_iou(predicted, true),
        "F1": foreground_f1(predicted, true),
        "IoU": iou(predicted, true),
        "overlap": int((predicted & true).sum()),
        "union": int((predicted | true).sum()),
        "artifacts": [_entry(artifact, pairs.get(id(artifact))) for artifact in sample.findings],
    }


def _entry(artifact: Finding, found: Finding | None) -> Row:
    """One true artifact and the finding matched to it; words are compared only where the truth has some."""
    entry: Row = {"area": artifact.area, "f1": 0.0, "iou": 0.0}
    if found is None:
        return entry
    entry["f1"], entry["iou"] = foreground_f1(found.mask, artifact.mask), iou(found.mask, artifact.mask)
    named = artifact.phrase != UNNAMED
    if named:
        entry["phrase"] = found.phrase.casefold() == artifact.phrase.casefold()
        entry["nouns"] = nouns(found.phrase) == nouns(artifact.phrase)
    if named or artifact.explanation:
        entry["category"] = found.category == artifact.category
    return entry


def figures(rows: Sequence[Row]) -> list[Figure]:
    """All figures, by group."""
    return by_group(rows, _of_group)


def false_alarms(group: str, rows: Sequence[Row]) -> list[Figure]:
    """Share of pictures known to be clean that were given a finding, at the thresholds in use."""
    return mean_of(group, "false alarms", [bool(row["findings"]) for row in rows if row["clean"]])


def _of_group(group: str, rows: Sequence[Row]) -> list[Figure]:
    flawed = [row for row in rows if "artifacts" in row]
    several = [row for row in flawed if len(row["artifacts"]) > 1]
    return [
        *(
            figure
            for name in ("mIoU", "F1")
            for figure in mean_of(group, name, [row[name] for row in flawed])
        ),
        *mean_of(group, "gIoU", [row["IoU"] for row in flawed]),
        *ratio_of(group, "cIoU", [row["overlap"] for row in flawed], [row["union"] for row in flawed]),
        *mean_of(group, "pictures with a finding", [bool(row["findings"]) for row in flawed]),
        *false_alarms(group, rows),
        *_per_artifact(group, flawed, "F1 per artifact"),
        *_per_artifact(group, several, "F1 per artifact, several in a picture"),
        *_found(group, flawed, "artifacts found", 1.0),
        *_found(group, flawed, "artifacts under 1 % found", SMALL),
        *_named(group, flawed, "category right", "category"),
        *_named(group, flawed, "nouns of the phrase right", "nouns"),
        *_named(group, flawed, "phrase right, word for word", "phrase"),
    ]


def _per_artifact(group: str, rows: Sequence[Row], name: str) -> list[Figure]:
    return mean_of_lists(group, name, [[entry["f1"] for entry in row["artifacts"]] for row in rows])


def _found(group: str, rows: Sequence[Row], name: str, below: float) -> list[Figure]:
    lists = [
        [entry["iou"] >= FOUND for entry in row["artifacts"] if entry["area"] < below or below == 1.0]
        for row in rows
    ]
    return mean_of_lists(group, name, lists)


def _named(group: str, rows: Sequence[Row], name: str, key: str) -> list[Figure]:
    """Share of the artifacts that a finding was matched to."""
    return mean_of_lists(
        group, name, [[entry[key] for entry in row["artifacts"] if key in entry] for row in rows]
    )

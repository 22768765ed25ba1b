"""SynthScars (arXiv 2503.15264): pictures with flaws as polygons, phrases and explanations; read and written.

On disk: ROOT/{train,test}/images/*, ROOT/{train,test}/annotations/{train,test}.json; some copies spell the
folder "annoations". A file is a list of {id: {"img_file_name", "caption", "refs": [{"sentence",
"explanation", "segmentation": [[x1, y1, x2, y2, ...], ...]}, ...]}}.

A row's own text is what a network learns to say (`tagged`): each phrase in tags where the text explains it,
followed by [SEG], as the released weights were trained.

Where the original loader goes wrong, this one does not: equal phrases keep their own places in the caption
(there: all the first one), a phrase's place is where it is explained and not where the summary mentions it,
overlapping polygons count once (there: twice), and an index is always the same row (there: a random one).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from contracts.errors import InvalidInput
from contracts.records import CATEGORIES, Category, Finding
from defender.answers import mark, without_tags
from defender.categories import categorize
from defender.datasets import Sample
from defender.image_files import read_image
from defender.polygons import Polygon, area, mask_of_polygons, polygons_of_mask

SPELLINGS = ("annotations", "annoations")
OPENING = "Upon examining the image. I have found:"
CLEAN_CAPTION = "Upon examining the image. I have found no artifacts."
_ELABORATION = "To elaborate, I have found the following artifacts."

Span = tuple[int, int]


@dataclass(frozen=True)
class Ref:
    """One artifact of a row."""

    phrase: str
    explanation: str
    polygons: tuple[Polygon, ...]
    category: Category
    span: Span | None
    """Where the phrase stands in the caption, half open; None if it does not occur."""


@dataclass(frozen=True)
class Row:
    """One annotated picture, not read yet."""

    name: str
    image: Path
    caption: str
    refs: tuple[Ref, ...]
    """In the caption's order; those that do not occur in it come last."""


class SynthScars:
    """A split of SynthScars, or of data in its schema. Everything but the pictures is checked at once.

    Refs without an inside are left out; rows that then have none, though they had some, are not clean
    pictures but unusable ones, and left out too. `skipped` says which and why, one line each.
    """

    def __init__(self, root: Path, split: str, is_real: bool | None = False) -> None:
        """Read the annotations of `split`. Raises InvalidInput, in one line, where they are not usable."""
        self.is_real = is_real
        self.rows, self.skipped = read_rows(root, split)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        """Raises InvalidInput if the picture cannot be read."""
        row = self.rows[index]
        image = read_image(row.image)
        shape = (image.shape[0], image.shape[1])
        masks = [mask_of_polygons(ref.polygons, shape) for ref in row.refs]
        inside = [(ref, mask) for ref, mask in zip(row.refs, masks, strict=True) if mask.any()]
        findings = tuple(
            Finding(mask, ref.phrase, ref.explanation, ref.category, 1.0) for ref, mask in inside
        )
        if row.refs and not findings:
            raise InvalidInput(f"{row.image}: none of its {len(row.refs)} artifacts lies inside the picture")
        answer = tagged(replace(row, refs=tuple(ref for ref, _ in inside))) if inside else ""
        return Sample(image, findings, self.is_real, caption=row.caption, answer=answer)

    def name(self, index: int) -> str:
        """What to call a sample in a report."""
        return self.rows[index].name


# ---- reading


def read_rows(root: Path, split: str) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """All usable rows in the file's order, and one line about each row or ref that was left out."""
    path = annotation_file(root, split)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} is not readable JSON ({error}): get the data set again") from error
    if not isinstance(content, list):
        raise InvalidInput(f"{path} must hold a list of rows: is it SynthScars?")
    rows, skipped = [], []
    for number, item in enumerate(content):
        if not (isinstance(item, dict) and len(item) == 1 and isinstance(next(iter(item.values())), dict)):
            raise InvalidInput(f"{path}: row {number} is not one name with its annotation: is it SynthScars?")
        ((name, values),) = item.items()
        try:
            row, notes = read_row(str(name), values, root, split)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{path}: row {number} ({name}) is not in SynthScars' schema: {error}"
            ) from error
        skipped.extend(notes)
        if row.refs or not values["refs"]:
            rows.append(row)
        else:
            skipped.append(f"row {name}: no usable artifact")
    return tuple(rows), tuple(skipped)


def annotation_file(root: Path, split: str) -> Path:
    """ROOT/SPLIT/annotations/SPLIT.json in either spelling. Raises InvalidInput if there is none."""
    places = [root / split / spelling / f"{split}.json" for spelling in SPELLINGS]
    # The original loader looks for the test split's file beside the training one's.
    places += [root / "train" / spelling / f"{split}.json" for spelling in SPELLINGS]
    for path in places:
        if path.is_file():
            return path
    raise InvalidInput(
        f"{places[0]} does not exist: give the folder that holds {split}/annotations and images"
    )


def read_row(name: str, values: Mapping[str, Any], root: Path, split: str) -> tuple[Row, list[str]]:
    """One row, and a line for each ref without an inside.

    Raises KeyError, TypeError or ValueError where the schema is not kept.
    """
    caption = _text(values["caption"]).strip("\"'")
    notes, given = [], []
    for number, ref in enumerate(values["refs"]):
        polygons = tuple(tuple(map(_coordinate, polygon)) for polygon in ref["segmentation"])
        if any(len(polygon) % 2 for polygon in polygons):
            raise ValueError("a polygon has an odd number of coordinates")
        if sum(map(area, polygons)) == 0:
            notes.append(f"row {name}: artifact {number} covers nothing")
            continue
        given.append(
            (_text(ref["sentence"]).strip(), _text(ref.get("explanation") or "").strip(), polygons, ref)
        )
    spans = assign_spans(caption, [(phrase, explanation) for phrase, explanation, _, _ in given])
    refs = [
        Ref(phrase, explanation, polygons, _category(ref.get("category"), phrase, explanation), span)
        for (phrase, explanation, polygons, ref), span in zip(given, spans, strict=True)
    ]
    refs = [_elaborated(ref, caption, refs) for ref in refs]
    refs.sort(key=lambda ref: ref.span or (math.inf, math.inf))
    return Row(name, _image_path(_text(values["img_file_name"]), root, split), caption, tuple(refs)), notes


def assign_spans(caption: str, refs: Sequence[tuple[str, str]]) -> list[Span | None]:
    """A place in the caption for each (phrase, explanation), none across another; None where none is left.

    Best is a place followed by a colon and the ref's own explanation, then one followed by a colon, then any.
    Then longer phrases choose first, as shorter ones may be part of them; then the order of the text decides.
    """
    longest_first = sorted(range(len(refs)), key=lambda i: -len(refs[i][0]))
    spans: list[Span | None] = [None] * len(refs)
    taken: set[Span] = set()
    for wanted in (2, 1, 0):
        for i in longest_first:
            phrase, explanation = refs[i]
            if spans[i] is not None:
                continue
            for span in occurrences(caption, phrase):
                if _free(span, taken) and _fit(caption, span, explanation) >= wanted:
                    spans[i] = span
                    taken.add(span)
                    break
    return spans


def tagged(row: Row) -> str:
    """The caption with `<p> PHRASE </p> [SEG]` in place of each ref's phrase: one [SEG] each, in order.

    Refs that the caption does not mention, or only across another one's phrase, follow at its end with their
    explanations: no mask is without its [SEG]. Tags that the caption itself holds are left out.
    """
    text, at = "", 0
    for start, end in (ref.span for ref in row.refs if ref.span is not None):
        text += without_tags(row.caption[at:start]) + mark(without_tags(row.caption[start:end]))
        at = end
    text += without_tags(row.caption[at:])
    said = [
        f"{mark(without_tags(ref.phrase))} : {_sentence(without_tags(ref.explanation))}".removesuffix(" : .")
        for ref in row.refs
        if ref.span is None
    ]
    return " ".join([text, *said] if text else said)


def occurrences(text: str, phrase: str) -> list[Span]:
    """Every place of a phrase, verbatim, in order."""
    spans, at = [], text.find(phrase) if phrase else -1
    while at >= 0:
        spans.append((at, at + len(phrase)))
        at = text.find(phrase, at + 1)
    return spans


def _free(span: Span, taken: Iterable[Span]) -> bool:
    """Whether a place has no letter in common with those that are taken."""
    return all(span[1] <= start or end <= span[0] for start, end in taken)


def _fit(caption: str, span: Span, explanation: str) -> int:
    rest = caption[span[1] :].lstrip()
    if not rest.startswith(":"):
        return 0
    return 2 if explanation and rest[1:].lstrip().startswith(explanation) else 1


def _elaborated(ref: Ref, caption: str, refs: Sequence[Ref]) -> Ref:
    """The ref with what the caption says after its phrase, where the ref itself has no explanation."""
    if ref.explanation or ref.span is None or not caption[ref.span[1] :].lstrip().startswith(":"):
        return ref
    end = min((r.span[0] for r in refs if r.span and r.span[0] > ref.span[0]), default=len(caption))
    explanation = caption[ref.span[1] : end].lstrip(" :").strip()
    return Ref(ref.phrase, explanation, ref.polygons, categorize(ref.phrase, explanation), ref.span)


def _category(given: Any, phrase: str, explanation: str) -> Category:
    known: Category = given if given in CATEGORIES else categorize(phrase, explanation)
    return known


def _image_path(name: str, root: Path, split: str) -> Path:
    """The exact file that a row names; a twin of another ending is another picture."""
    relative = Path(name)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{name} lies outside the data set")
    places = [root / relative, root / split / relative, root / split / "images" / relative.name]
    return next((path for path in places if path.is_file()), places[0])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _coordinate(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a coordinate")
    return number


# ---- writing


def to_row(name: str, image_name: str, sample: Sample) -> dict[str, Any]:
    """A sample in SynthScars' schema. Reading it back gives the same findings, masks to the pixel."""
    refs = [
        {
            "sentence": finding.phrase,
            "explanation": finding.explanation,
            "category": finding.category,
            "bbox": list(finding.box),
            "segmentation": polygons_of_mask(finding.mask),
        }
        for finding in sample.findings
    ]
    return {name: {"img_file_name": image_name, "caption": caption_of(sample.findings), "refs": refs}}


def caption_of(findings: Sequence[Finding]) -> str:
    """The text that SynthScars would have: what was found, then each phrase with its explanation."""
    if not findings:
        return CLEAN_CAPTION
    summary = ", ".join(finding.phrase for finding in findings)
    parts = [f"{finding.phrase} :{_sentence(finding.explanation)}" for finding in findings]
    return " ".join([OPENING, f"{summary}.", _ELABORATION, *parts])


def export(samples: Iterable[Sample], root: Path, split: str) -> int:
    """Write samples as ROOT/SPLIT/images and ROOT/SPLIT/annotations/SPLIT.json; returns how many.

    Pictures are PNG, numbered from 000000. Raises InvalidInput if the split is there already.
    """
    folder = root / split
    if folder.exists():
        raise InvalidInput(f"{folder} exists already: choose a new folder")
    (folder / "images").mkdir(parents=True)
    (folder / SPELLINGS[0]).mkdir()
    rows = []
    for number, sample in enumerate(samples):
        name = f"{number:06d}"
        image_name = f"{split}/images/{name}.png"
        PILImage.fromarray(np.ascontiguousarray(sample.image)).save(root / image_name)
        rows.append(to_row(name, image_name, sample))
    text = json.dumps(rows, ensure_ascii=False)
    (folder / SPELLINGS[0] / f"{split}.json").write_text(text, encoding="utf-8")
    return len(rows)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."

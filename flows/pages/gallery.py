"""The picture gallery of a run as one Markdown page, for Prefect's artifact view. Does not need Prefect."""

from __future__ import annotations

import html
import re

from PIL import Image as Pillow

from contracts.records import Repair, Round, Run
from flows.files.output import ImageLoader, score_table
from flows.files.pictures import marked, thumbnail_uri
from flows.terminal.wording import (
    count,
    outcome,
    reason_words,
    repair_outcome,
    repair_reason,
    repair_words,
    title_of,
    verdict_words,
)

REPAIR_HEADER = "| round | region | found | told | verdict |\n| --- | --- | --- | --- | --- |"
HEADER = "| round | picture | prompt | findings | scores | verdict |\n| --- | --- | --- | --- | --- | --- |"


def gallery_key(run_id: str) -> str:
    """A key that Prefect accepts: lower-case letters, digits and dashes."""
    return "gallery-" + re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")


def gallery(run: Run, load_image: ImageLoader) -> str:
    """A table of all painted rounds, or of a picture's regions; thumbnails are `data:` images of up to
    64 KB."""
    if run.kind == "inpainting":
        return _repairs(run, load_image)
    rows = [_row(run, item, load_image) for item in run.rounds if item.image is not None]
    return "\n".join([f"**{plain(run.prompt)}**", "", plain(outcome(run)), "", HEADER, *rows, ""])


def plain(text: str) -> str:
    """Text of others as inert Markdown: no table bars, links, images or HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _repairs(run: Run, load_image: ImageLoader) -> str:
    lines = [f"**{plain(title_of(run))}**", "", plain(repair_outcome(run)), ""]
    original = next((item.image for item in run.rounds), None)
    if original is not None and run.result is not None:
        pictures = (thumbnail_uri(Pillow.fromarray(load_image(digest))) for digest in (original, run.result))
        before, after = map(_picture, pictures)
        lines += ["| before | after |", "| --- | --- |", f"| {before} | {after} |", ""]
    rows = [
        _repair_row(item.index, number, repair)
        for item in run.rounds
        for number, repair in enumerate(item.repairs or (), start=1)
    ]
    return "\n".join([*lines, *([REPAIR_HEADER, *rows] if rows else []), ""])


def _repair_row(index: int, number: int, repair: Repair) -> str:
    found = "<br>".join(f"{plain(f.phrase)} ({f.category})" for f in repair.plan.findings) or "drawn by hand"
    words = plain(f"{repair_words(repair)}: {repair_reason(repair)}")
    return f"| {index} | {number} | {found} | {plain(repair.prompt or '')} | {words} |"


def _picture(uri: str) -> str:
    return f"![picture]({uri})"


def _row(run: Run, item: Round, load_image: ImageLoader) -> str:
    assert item.image is not None
    findings = item.diagnosis.findings if item.diagnosis else ()
    picture = thumbnail_uri(marked(load_image(item.image), findings))
    cells = [
        str(item.index),
        f"![round {item.index}]({picture})",
        plain(item.prompt),
        _findings(item),
        "<br>".join(f"{plain(name)} {value:.3f}" for name, value in score_table(item).items()),
        plain(f"{verdict_words(run, item)}: {reason_words(item)}"),
    ]
    return f"| {' | '.join(cells)} |"


def _findings(item: Round) -> str:
    if item.diagnosis is None:
        return "not examined"
    if not item.diagnosis.findings:
        return "no artifacts found"
    lines = [f"{n}. {plain(f.phrase)} ({f.category})" for n, f in enumerate(item.diagnosis.findings, start=1)]
    return "<br>".join([count(len(lines), "finding"), *lines])

"""The picture gallery of a run as one Markdown page, for Prefect's artifact view. Does not need Prefect."""

from __future__ import annotations

import html
import re

from contracts.records import Round, Run
from flows.output import ImageLoader, score_table
from flows.pictures import marked, thumbnail_uri
from flows.wording import count, outcome, reason_words, verdict_words

HEADER = "| round | picture | prompt | findings | scores | verdict |\n| --- | --- | --- | --- | --- | --- |"


def gallery_key(run_id: str) -> str:
    """A key that Prefect accepts: lower-case letters, digits and dashes."""
    return "gallery-" + re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")


def gallery(run: Run, load_image: ImageLoader) -> str:
    """A table of all painted rounds; every thumbnail is a `data:` image of at most 64 KB."""
    rows = [_row(run, item, load_image) for item in run.rounds if item.image is not None]
    return "\n".join([f"**{plain(run.prompt)}**", "", plain(outcome(run)), "", HEADER, *rows, ""])


def plain(text: str) -> str:
    """Text of others as inert Markdown: no table bars, links, images or HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


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

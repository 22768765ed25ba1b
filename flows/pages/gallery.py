"""The picture gallery of a run as one Markdown page, for Prefect's artifact view, and its scores as rows.
Does not need Prefect.

Small pictures are `data:` images, so that the page shows them wherever it is read; what they link to lies on
the image server, which the reader's browser has to reach.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as Pillow

from contracts.records import Repair, Round, Run, Verdict
from flows.files.output import ImageLoader, score_table
from flows.files.pictures import marked, shown, thumbnail_uri
from flows.terminal.wording import (
    outcome,
    reason_words,
    repair_outcome,
    repair_reason,
    repair_words,
    review_words,
    title_of,
    verdict_words,
    word_difference,
)

REPAIR_HEADER = "| round | region | found | told | verdict |\n| --- | --- | --- | --- | --- |"
THUMBNAIL_CHARACTERS = 64 * 1024
ASKED_PIXELS = 176
"""Of the longer side, in a form: two of them fit beside each other."""
PAGE_CHARACTERS = 1024 * 1024
"""Of all small pictures together: a page that is larger takes a browser too long."""


@dataclass(frozen=True)
class Links:
    """Where full pictures and reports are shown over http; without a base there are none."""

    base: str | None = None

    def picture(self, digest: str) -> str | None:
        """The picture itself, whole."""
        return self.base and f"{self.base}/images/{digest}.png"

    def marked(self, run_id: str, index: int) -> str | None:
        """A round's picture with its findings marked."""
        return self.base and f"{self.base}/runs/{run_id}/rounds/{index}/marked.png"

    def report(self, run_id: str) -> str | None:
        """The whole report."""
        return self.base and f"{self.base}/runs/{run_id}/report.html"

    def line(self, run_id: str) -> str:
        """The page's line of links. The picture in it is there only for a browser that reaches the server:
        for any other, its alternative text says what to do."""
        if self.base is None:
            return "Full-size pictures and the report are not linked: `legion ui` serves them."
        alternative = (
            f"The pictures' server at {self.base} cannot be reached from this browser, so the links on this "
            "page lead nowhere. Start legion ui there, or set LEGION_IMAGE_URL to an address this browser "
            "reaches."
        )
        return (
            f"[Open the full report]({self.report(run_id)}) ![{plain(alternative)}]({self.base}/reached.svg)"
        )


def artifact_key(kind: str, run_id: str) -> str:
    """A key that Prefect accepts: lower-case letters, digits and dashes."""
    return f"{kind}-" + re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")


def gallery(run: Run, load_image: ImageLoader, links: Links | None = None) -> str:
    """All painted rounds, or a picture's regions; thumbnails are `data:` images of up to 64 KB."""
    links = links or Links()
    if run.kind == "inpainting":
        return _repairs(run, load_image, links)
    painted = [item for item in run.rounds if item.image is not None]
    limit = _thumbnail_limit(2 * len(painted))
    lines = [plain(outcome(run)), "", links.line(run.run_id), ""]
    before = run.prompt
    for item in painted:
        lines += [*_round(run, item, before, load_image, links, limit), ""]
        before = item.prompt
    return "\n".join(lines)


def round_page(run: Run, proposed: Verdict, load_image: ImageLoader, links: Links | None = None) -> str:
    """The last round for a person who is asked about it, with the gate's proposal. Its pictures come first:
    a form leaves little room above its fields."""
    links, item = links or Links(), run.rounds[-1]
    findings = item.diagnosis.findings if item.diagnosis else ()
    image = load_image(item.image or "")
    pictures = [
        ("the picture", shown(image)),
        *([("what was found", marked(image, findings))] if findings else []),
    ]
    if run.kind == "inpainting":
        if run.result is not None:
            pictures.append(("after the repairs", shown(load_image(run.result))))
        lines = _repair_table([item])
    else:
        before = run.rounds[-2].prompt if len(run.rounds) > 1 else run.prompt
        lines = _facts(item, before)
    end = f" The run would end here: {plain(proposed.stop)}." if proposed.stop else ""
    gate = f"**The gate would {'accept' if proposed.accepted else 'reject'}** this round: "
    full = links.picture(item.image or "")
    return "\n".join(
        [
            " ".join(f"![{words}]({_smaller(picture)})" for words, picture in pictures),
            "",
            f"**{plain(title_of(run))}, round {item.index}**{f' · [full size]({full})' if full else ''}",
            "",
            gate + plain(proposed.reason) + "." + end,
            "",
            *lines,
        ]
    )


def _smaller(picture: Pillow.Image) -> str:
    small = picture.copy()
    small.thumbnail((ASKED_PIXELS, ASKED_PIXELS), Pillow.Resampling.LANCZOS)
    return thumbnail_uri(small)


def score_rows(run: Run) -> list[dict[str, Any]]:
    """One row per round: every score, the number of findings, the verdict and the seconds of model time."""
    return [
        {
            "round": item.index,
            "findings": len(item.diagnosis.findings) if item.diagnosis else None,
            **{name: round(value, 4) for name, value in score_table(item).items()},
            "verdict": verdict_words(run, item),
            "seconds": round(sum(item.seconds.values()), 2),
            "prompt": item.prompt,
        }
        for item in run.rounds
        if item.image is not None
    ]


def plain(text: str) -> str:
    """Text of others as inert Markdown: no table bars, links, images or HTML."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def picture_row(*cells: tuple[str, str, str | None]) -> list[str]:
    """A table of small pictures side by side, each (heading, URI, link to the full one if there is one)."""
    headings = " | ".join(heading for heading, _, _ in cells)
    pictures = " | ".join(f"![{heading}]({uri})" for heading, uri, _ in cells)
    lines = [f"| {headings} |", f"|{' --- |' * len(cells)}", f"| {pictures} |"]
    if all(link for _, _, link in cells):
        lines.append(f"| {' | '.join(f'[full size]({link})' for _, _, link in cells)} |")
    return lines


def difference_words(before: str, after: str) -> str:
    """The prompt with what came in bold and what went struck through."""
    if before == after:
        return plain(after)
    marks = {"same": "", "added": "**", "removed": "~~"}
    text = ""
    for piece in word_difference(before, after):
        words = piece.text.strip(" ,")
        if piece.kind != "removed" and piece.text.lstrip().startswith(","):
            text += ","
        if words:
            text += f" {marks[piece.kind]}{plain(words)}{marks[piece.kind]}"
        if piece.kind != "removed" and words and piece.text.rstrip().endswith(","):
            text += ","
    return text.strip()


def _thumbnail_limit(pictures: int) -> int:
    return min(THUMBNAIL_CHARACTERS, PAGE_CHARACTERS // max(1, pictures))


def _repairs(run: Run, load_image: ImageLoader, links: Links) -> str:
    lines = [f"### {plain(title_of(run))}", "", plain(repair_outcome(run)), "", links.line(run.run_id), ""]
    said = [f"- **Round {r.index}:** {plain(review_words(r))}" for r in run.rounds if r.review]
    return "\n".join([*lines, *_before_and_after(run, load_image, links), *_repair_table(run.rounds), *said])


def _before_and_after(run: Run, load_image: ImageLoader, links: Links) -> list[str]:
    first = run.rounds[0] if run.rounds else None
    if first is None or first.image is None or run.result is None:
        return []
    limit = _thumbnail_limit(3)
    found = first.diagnosis.findings if first.diagnosis else ()
    overlay = thumbnail_uri(marked(load_image(first.image), found), limit)
    return [
        *picture_row(
            ("before", _small(load_image, first.image, limit), links.picture(first.image)),
            ("what was found", overlay, links.marked(run.run_id, first.index)),
            ("after", _small(load_image, run.result, limit), links.picture(run.result)),
        ),
        "",
    ]


def _repair_table(rounds: Sequence[Round]) -> list[str]:
    rows = [
        _repair_row(item.index, number, repair)
        for item in rounds
        for number, repair in enumerate(item.repairs or (), start=1)
    ]
    return [REPAIR_HEADER, *rows, ""] if rows else []


def _repair_row(index: int, number: int, repair: Repair) -> str:
    found = "; ".join(f"{plain(f.phrase)} ({f.category})" for f in repair.plan.findings) or "drawn by hand"
    words = plain(f"{repair_words(repair)}: {repair_reason(repair)}")
    return f"| {index} | {number} | {found} | {plain(repair.prompt or '')} | {words} |"


def _small(load_image: ImageLoader, digest: str, limit: int) -> str:
    return thumbnail_uri(shown(load_image(digest)), limit)


def _round(
    run: Run, item: Round, before: str, load_image: ImageLoader, links: Links, limit: int
) -> list[str]:
    """A round's heading, pictures, prompt, findings, scores and verdict."""
    assert item.image is not None
    findings = item.diagnosis.findings if item.diagnosis else ()
    words = verdict_words(run, item)
    pictures = [(f"round {item.index}", _small(load_image, item.image, limit), links.picture(item.image))]
    if findings:
        overlay = thumbnail_uri(marked(load_image(item.image), findings), limit)
        pictures.append(("what was found", overlay, links.marked(run.run_id, item.index)))
    return [
        f"### Round {item.index}: {words}",
        "",
        *picture_row(*pictures),
        "",
        *_facts(item, before),
        f"- **Verdict:** {plain(f'{words}: {reason_words(item)}')}",
        *([f"- **Asked:** {plain(review_words(item))}"] if item.review else []),
    ]


def _facts(item: Round, before: str) -> list[str]:
    scores = ", ".join(f"{plain(name)} {value:.3f}" for name, value in score_table(item).items())
    return [
        f"- **Prompt:** {difference_words(before, item.prompt)}",
        f"- **Found:** {_findings(item)}",
        f"- **Scores:** {scores or 'none yet'}",
    ]


def _findings(item: Round) -> str:
    if item.diagnosis is None:
        return "not examined yet"
    found = [
        f"{number}. {plain(f.phrase)} ({f.category}, {f.confidence:.0%} sure): {plain(f.explanation)}"
        for number, f in enumerate(item.diagnosis.findings, start=1)
    ]
    return "; ".join(found) or "no artifacts"

"""One self-contained HTML page about repaired pictures: before, after, every region, who painted what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow

from contracts.records import Candidate, Diagnosis, Image, LeftOut, Repair, Round, Run
from controller.compositing import SourceMap, composite
from controller.inpainting import source_map
from flows.files.inpainting_output import plan_overlay
from flows.files.output import ImageLoader, score_table
from flows.files.pictures import color_of, mask_overlay, shown, shown_size, webp_uri
from flows.pages.report import LONG_BATCH, flat_settings, installed_versions, page_template
from flows.terminal.inpainting import found_words
from flows.terminal.wording import (
    area_words,
    count,
    repair_outcome,
    repair_reason,
    repair_words,
    review_words,
    title_of,
    word_difference,
)

TEMPLATE = "inpainting.html.j2"
CLOSE_UP = 160
"""Pixels of the longer side of a crop in the table."""


@dataclass(frozen=True)
class Named:
    """A run and what the page calls its picture."""

    run: Run
    name: str


def render_repair_report(
    items: Sequence[Named], load_image: ImageLoader, versions: Mapping[str, str] | None = None
) -> str:
    """The page as text. `items` may not be empty; a run without a picture yet gets a line that says so."""
    views = [_run_view(item, load_image) for item in items]
    repairs = [x for item in items for r in item.run.rounds for x in r.repairs or ()]
    return page_template(TEMPLATE).render(
        title=items[0].name if len(items) == 1 else count(len(items), "picture"),
        runs=views,
        batch=len(items) > 1,
        folded=len(items) >= LONG_BATCH,
        summary={
            "changed": sum(item.run.best is not None for item in items),
            "repaired": sum(bool(x.accepted) for x in repairs),
            "undone": sum(x.accepted is False for x in repairs),
        },
        versions=installed_versions() if versions is None else versions,
    )


def _run_view(item: Named, load_image: ImageLoader) -> dict[str, Any]:
    run = item.run
    view: dict[str, Any] = {
        "id": run.run_id,
        "name": item.name,
        "scene": title_of(run),
        "seed": run.seed,
        "status": run.status,
        "created": run.created.replace("T", " ")[:16],
        "outcome": repair_outcome(run),
        "settings": flat_settings(run.settings),
        "rounds": [],
    }
    painted = [r for r in run.rounds if r.image is not None]
    if not painted or run.result is None:
        return view
    before, after = load_image(painted[0].image or ""), load_image(run.result)
    sources = source_map(run, before.shape[:2])
    support = run.support
    size = shown_size(before.shape[1], before.shape[0])
    view |= {
        "width": size[0],
        "height": size[1],
        "before": webp_uri(shown(before)),
        "after": webp_uri(shown(after)),
        "changed": not np.array_equal(before, after),
        "plan": None if support is None else webp_uri(_all_plans(before, painted)),
        "support": area_words(support, before.shape),
        "sources": webp_uri(_sources_picture(after, sources)) if sources.legend else None,
        "legend": _legend(sources),
        "found_before": _finding_count(painted[0].diagnosis),
        "found_after": _finding_count(_last_diagnosis(run)),
        "gains": _gains(run),
        "proof": next((r.outside for r in reversed(painted) if r.outside), None),
        "rounds": [_round_view(run, r, load_image) for r in painted],
    }
    return view


def _round_view(run: Run, item: Round, load_image: ImageLoader) -> dict[str, Any]:
    assert item.image is not None
    standing = load_image(item.image)
    regions = []
    for number, repair in enumerate(item.repairs or (), start=1):
        regions.append(_region_view(run, repair, number, standing, load_image))
        if repair.picture is not None:
            standing = load_image(repair.picture)
    return {
        "index": item.index,
        "reason": item.verdict.reason if item.verdict else "this round was not finished",
        "stop": item.verdict.stop if item.verdict else None,
        "review": review_words(item),
        "regions": regions,
        "left_out": [_left_view(x) for x in item.left_out],
        "seconds": f"{sum(item.seconds.values()):.1f} s",
    }


def _region_view(
    run: Run, repair: Repair, number: int, standing: Image, load_image: ImageLoader
) -> dict[str, Any]:
    words = repair_words(repair)
    match_colors = bool(run.settings.get("match_colors", True))
    candidates = []
    for n, candidate in enumerate(repair.candidates, start=1):
        pasted = composite(standing, load_image(candidate.painted), repair.plan, match_colors=match_colors)
        candidates.append(_candidate_view(repair, n, candidate, _close_up(pasted, repair)))
    return {
        "number": number,
        "color": "#{:02x}{:02x}{:02x}".format(*color_of(number)),
        "found": found_words(repair.plan.findings).split("\n"),
        "explanations": [f.explanation for f in repair.plan.findings],
        "prompt": word_difference(title_of(run), repair.prompt or ""),
        "verdict": words,
        "badge": {"rolled back": "back", "unfinished": "open", "repaired": "accepted"}[words],
        "reason": repair_reason(repair),
        "before": _close_up(standing, repair, outlined=True),
        "candidates": candidates,
        "pixels": f"{int(repair.plan.support.sum()):,} pixels",
        "crop": "{2}x{3} at {0},{1}".format(*_corner_and_size(repair)),
        "target": f"{repair.plan.target[0]}x{repair.plan.target[1]}",
    }


def _candidate_view(repair: Repair, number: int, candidate: Candidate, picture: str) -> dict[str, Any]:
    return {
        "number": number,
        "picture": picture,
        "chosen": repair.chosen == number,
        "accepted": bool(candidate.accepted),
        "seed": candidate.seed,
        "seam": "" if candidate.seam is None else f"{candidate.seam:.1f}",
        "scores": [(score.name, f"{score.value:.3f}") for score in candidate.scores or ()],
        "reason": candidate.reason.removeprefix("rolled back: ").removeprefix("repaired: "),
    }


def _close_up(image: Image, repair: Repair, outlined: bool = False) -> str:
    left, top, right, bottom = repair.plan.crop
    crop = image[top:bottom, left:right]
    scale = CLOSE_UP / max(crop.shape[:2])
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    picture = Pillow.fromarray(crop).resize(size, Pillow.Resampling.LANCZOS)
    if outlined:
        mask = repair.plan.support[top:bottom, left:right]
        picture = Pillow.alpha_composite(picture.convert("RGBA"), mask_overlay([mask], size)).convert("RGB")
    return webp_uri(picture)


def _corner_and_size(repair: Repair) -> tuple[int, int, int, int]:
    left, top, right, bottom = repair.plan.crop
    return left, top, right - left, bottom - top


def _all_plans(image: Image, rounds: Sequence[Round]) -> Pillow.Image:
    """The regions of the first round that has any: those of later rounds are tries of the same places."""
    plans = next(([x.plan for x in r.repairs] for r in rounds if r.repairs), [])
    return plan_overlay(image, plans)


def _sources_picture(image: Image, sources: SourceMap) -> Pillow.Image:
    """The result in gray, every painted pixel in its layer's color."""
    size = shown_size(image.shape[1], image.shape[0])
    gray = shown(image).convert("L").convert("RGBA")
    layers = [sources.layers == number for number in range(1, len(sources.legend) + 1)]
    return Pillow.alpha_composite(gray, mask_overlay(layers, size)).convert("RGB")


def _legend(sources: SourceMap) -> list[dict[str, Any]]:
    return [
        {**entry, "color": "#{:02x}{:02x}{:02x}".format(*color_of(number))}
        for number, entry in enumerate(sources.describe(), start=1)
    ]


def _left_view(item: LeftOut) -> dict[str, Any]:
    return {"found": found_words(item.findings).replace("\n", ", "), "reason": item.reason}


def _finding_count(diagnosis: Diagnosis | None) -> str:
    if diagnosis is None:
        return "not examined yet"
    number = len(diagnosis.findings)
    return count(number, "finding") if number else "no artifacts found"


def _last_diagnosis(run: Run) -> Diagnosis | None:
    """What is found in the picture that is shown."""
    taken = _taken(run)
    return taken[-1].diagnosis if taken else run.rounds[0].diagnosis


def _taken(run: Run) -> list[Candidate]:
    """The candidates that stayed, oldest first."""
    repairs = (x for r in run.rounds for x in r.repairs or ())
    return [x.candidates[x.chosen - 1] for x in repairs if x.chosen is not None]


def _gains(run: Run) -> list[dict[str, str]]:
    """Scores of the picture that is shown against the first, for every score."""
    first = score_table(run.rounds[0])
    chosen = _taken(run)
    last = {s.name: s.value for s in (chosen[-1].scores or ())} if chosen else first
    gains = []
    for name, value in last.items():
        if name in first:
            change = value - first[name]
            kind = "same" if abs(change) < 5e-4 else "up" if change > 0 else "down"
            gains.append({"name": name, "after": f"{value:.3f}", "change": f"{change:+.3f}", "kind": kind})
    return gains

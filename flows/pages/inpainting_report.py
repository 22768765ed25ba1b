"""One self-contained HTML page about repaired pictures: before, after, every region, who painted what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image as Pillow

from contracts.records import (
    Box,
    Candidate,
    Diagnosis,
    Image,
    LeftOut,
    Mask,
    RegionPlan,
    Repair,
    Round,
    Run,
    bounding_box,
)
from controller.compositing import SourceMap, composite
from controller.inpainting import source_map
from flows.files.inpainting_output import plan_overlay
from flows.files.output import ImageLoader, score_table
from flows.files.picture_files import LOSSY
from flows.files.pictures import mask_overlay, shown, shown_size, web_color, webp_uri
from flows.files.region_colors import RegionColors, layer_colors, region_colors
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
CLOSE_UPS = ((1.6, 180), (4.0, 318), (math.inf, 484))
"""Up to how many times as wide as high a close-up has how many pixels of width: five, three or two a row."""
HIGHEST_CLOSE_UP = 360
"""Pixels."""
AROUND = 0.3
"""What a close-up shows around a region on each side, in the region's longer sides."""
WIDE, TALL = 2.0, 1.5
"""From so many times as wide as high, before stands above after; from so many times as high as wide, both are
made narrower."""
TALLEST = 620
"""Pixels of the height of a tall picture."""
COARSE = 1.5
"""Reduced by more than this, a region is told to be painted at less than its size."""


@dataclass(frozen=True)
class Named:
    """A run and what the page calls its picture."""

    run: Run
    name: str
    notes: Sequence[str] = ()
    """What the result's file could not keep."""
    form: str = "png"
    """The result's file format."""


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
    sources, colors = source_map(run, before.shape[:2]), region_colors(run)
    layers = layer_colors(sources.legend, colors)
    support = run.support
    size = shown_size(before.shape[1], before.shape[0])
    view |= {
        "width": size[0],
        "height": size[1],
        "wide": size[0] >= WIDE * size[1],
        "widest": round(TALLEST * size[0] / size[1]) if size[1] >= TALL * size[0] else None,
        "before": webp_uri(shown(before)),
        "after": webp_uri(shown(after)),
        "done": any(r.verdict is not None for r in painted),
        "changed": not np.array_equal(before, after),
        "plan": None if support is None else webp_uri(_all_plans(before, painted)),
        "support": area_words(support, before.shape),
        "sources": webp_uri(_sources_picture(after, sources, layers)) if layers else None,
        "legend": _legend(sources, layers),
        "found_before": _finding_count(painted[0].diagnosis),
        "found_after": _finding_count(_last_diagnosis(run)),
        "gains": _gains(run),
        "notes": item.notes,
        "compression": item.form.upper() if item.form in LOSSY else None,
        "proof": next((r.outside for r in reversed(painted) if r.outside), None),
        "rounds": [_round_view(run, r, load_image, colors) for r in painted],
    }
    return view


def _round_view(run: Run, item: Round, load_image: ImageLoader, colors: RegionColors) -> dict[str, Any]:
    assert item.image is not None
    standing = load_image(item.image)
    regions = []
    for number, repair in enumerate(item.repairs or (), start=1):
        color = colors[item.index, number]
        regions.append(_region_view(run, repair, number, color, standing, load_image))
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
    run: Run, repair: Repair, number: int, color: int, standing: Image, load_image: ImageLoader
) -> dict[str, Any]:
    words = repair_words(repair)
    match_colors = bool(run.settings.get("match_colors", True))
    candidates = []
    for n, candidate in enumerate(repair.candidates, start=1):
        pasted = composite(standing, load_image(candidate.painted), repair.plan, match_colors=match_colors)
        candidates.append(_candidate_view(repair, n, candidate, webp_uri(_close_up(pasted, repair.plan))))
    before = _close_up(standing, repair.plan, color)
    return {
        "number": number,
        "color": web_color(color),
        "found": found_words(repair.plan.findings).split("\n"),
        "explanations": [f.explanation for f in repair.plan.findings],
        "prompt": word_difference(title_of(run), repair.prompt or ""),
        "verdict": words,
        "badge": {"rolled back": "back", "unfinished": "open", "repaired": "accepted"}[words],
        "reason": repair_reason(repair),
        "before": webp_uri(before),
        "width": before.width,
        "height": before.height,
        "coarse": _coarse(repair.plan),
        "candidates": candidates,
        "pixels": f"{int(repair.plan.support.sum()):,} pixels",
        "crop": "{2}x{3} at {0},{1}".format(*repair.plan.crop[:2], *_size(repair.plan.crop)),
        "target": f"{repair.plan.target[0]}x{repair.plan.target[1]}",
    }


def _candidate_view(repair: Repair, number: int, candidate: Candidate, picture: str) -> dict[str, Any]:
    reason = candidate.reason.removeprefix("rolled back: ").removeprefix("repaired: ")
    return {
        "number": number,
        "picture": picture,
        "chosen": repair.chosen == number,
        "verdict": _candidate_words(candidate, repair.chosen == number),
        "seed": candidate.seed,
        "measured": _measured(candidate, reason),
        "reason": reason,
    }


def _candidate_words(candidate: Candidate, chosen: bool) -> str:
    if chosen:
        return "taken"
    if candidate.accepted is None:
        return "not judged yet"
    return "fine too" if candidate.accepted else "rolled back"


def _measured(candidate: Candidate, reason: str) -> list[str]:
    """The scores and the seam, but for those that the reason names with their number."""
    scores = {score.name: score.value for score in candidate.scores or ()}
    words = [
        f"{name} {value:.3f}"
        for name, value in scores.items()
        if not any(f"{name} {verb}{value:.4f}" in reason for verb in ("", "fell to "))
    ]
    if candidate.seam is not None and f"a step of {candidate.seam:.1f} levels" not in reason:
        words.append(f"seam {candidate.seam:.1f}")
    return words


def _coarse(plan: RegionPlan) -> str | None:
    """How much smaller than in the picture a region was painted, if that can be seen."""
    share = min(size / side for size, side in zip(plan.target, _size(plan.crop), strict=True))
    return f"{share:.2f}" if share * COARSE < 1 else None


def _close_up(image: Image, plan: RegionPlan, color: int | None = None) -> Pillow.Image:
    """A region with some of what is around it, outlined if there is a color."""
    left, top, right, bottom = box = _around(plan.support)
    width, height = _size(box)
    column = next(pixels for most, pixels in CLOSE_UPS if width <= most * height)
    scale = min(column / width, HIGHEST_CLOSE_UP / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    crop = np.ascontiguousarray(image[top:bottom, left:right])
    picture = Pillow.fromarray(crop).resize(size, Pillow.Resampling.LANCZOS)
    if color is None:
        return picture
    outline = mask_overlay([plan.support[top:bottom, left:right]], size, [color])
    return Pillow.alpha_composite(picture.convert("RGBA"), outline).convert("RGB")


def _around(support: Mask) -> Box:
    """What is shown of the picture around a region: the crop that the painter sees may be many times larger,
    and a small repair would not be seen in it."""
    left, top, right, bottom = box = bounding_box(support)
    reach = max(8, round(AROUND * max(_size(box))))
    height, width = support.shape
    return Box(
        max(0, left - reach), max(0, top - reach), min(width, right + reach), min(height, bottom + reach)
    )


def _size(box: Box) -> tuple[int, int]:
    return box.right - box.left, box.bottom - box.top


def _all_plans(image: Image, rounds: Sequence[Round]) -> Pillow.Image:
    """The regions of the first round that has any, whose colors count up: most of later rounds are tries of
    the same places."""
    plans = next(([x.plan for x in r.repairs] for r in rounds if r.repairs), [])
    return plan_overlay(image, plans)


def _sources_picture(image: Image, sources: SourceMap, colors: Sequence[int]) -> Pillow.Image:
    """The result in gray, every painted pixel in its layer's color."""
    size = shown_size(image.shape[1], image.shape[0])
    gray = shown(image).convert("L").convert("RGBA")
    layers = [sources.layers == number for number in range(1, len(sources.legend) + 1)]
    return Pillow.alpha_composite(gray, mask_overlay(layers, size, colors)).convert("RGB")


def _legend(sources: SourceMap, colors: Sequence[int]) -> list[dict[str, Any]]:
    return [
        {**entry, "color": web_color(color)} for entry, color in zip(sources.describe(), colors, strict=True)
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

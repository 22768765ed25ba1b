"""One self-contained HTML page about a run or a batch: no external reference, no script, works offline."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from contracts.records import Finding, Image, Round, Run
from contracts.scores import difference
from flows.files.output import ImageLoader, score_table
from flows.files.pictures import anchor, color_of, mask_overlay, shown, shown_size, webp_uri
from flows.pages.charts import Point, curve
from flows.terminal.wording import (
    count,
    origin_words,
    outcome,
    reason_words,
    review_words,
    revision_words,
    verdict_words,
    word_difference,
)

TEMPLATE = "report.html.j2"
SHOWN_VERSIONS = ("legion-studio", "torch", "diffusers", "transformers", "prefect")
LONG_BATCH = 6
"""From this many runs on, the details of each run start folded."""


def write_page(text: str, path: Path) -> Path:
    """Write a page to `path` and return it; folders are made as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def render_report(
    runs: Sequence[Run], load_image: ImageLoader, versions: Mapping[str, str] | None = None
) -> str:
    """The page as text. `runs` may not be empty; a run without a picture yet gets a line that says so."""
    views = [_run_view(run, load_image) for run in runs]
    return page_template(TEMPLATE).render(
        title=runs[0].prompt if len(runs) == 1 else count(len(runs), "prompt"),
        runs=views,
        batch=len(runs) > 1,
        folded=len(runs) >= LONG_BATCH,
        summary=_batch_summary(runs),
        versions=installed_versions() if versions is None else versions,
    )


def page_template(name: str) -> Template:
    """A page of this room: everything is escaped, and an unknown variable is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def picture_view(image: Image, findings: Sequence[Finding], alt: str) -> dict[str, Any]:
    """A picture, its marks and its findings, for the parts `stage` and `findings_list` of a page."""
    width, height = shown_size(image.shape[1], image.shape[0])
    return {
        "picture": webp_uri(shown(image)),
        "overlay": _overlay(image, findings),
        "width": width,
        "height": height,
        "alt": alt,
        "findings": [_finding_view(number, f) for number, f in enumerate(findings, start=1)],
    }


def installed_versions() -> dict[str, str]:
    """Versions of what painted and judged, Python's included."""
    found = {"python": platform.python_version()}
    for name in SHOWN_VERSIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def flat_settings(settings: Mapping[str, object], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as `part · key` rows, in their own order."""
    rows: list[tuple[str, str]] = []
    for key, value in settings.items():
        name = f"{prefix}{key.replace('_', ' ')}"
        if isinstance(value, Mapping):
            rows += flat_settings(value, f"{name} · ")
        elif isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
            for number, item in enumerate(value, start=1):
                inner = item if isinstance(item, Mapping) else {"value": item}
                rows += flat_settings(inner, f"{name} {number} · ")
        else:
            rows.append((name, "none" if value is None else str(value)))
    return rows


def _run_view(run: Run, load_image: ImageLoader) -> dict[str, Any]:
    painted = [item for item in run.rounds if item.image is not None]
    views = []
    for position, item in enumerate(painted):
        before = painted[position - 1].prompt if position else run.prompt
        views.append(_round_view(run, item, before, load_image))
    best = next((view for view in views if run.best is not None and view["index"] == run.best.index), None)
    return {
        "id": run.run_id,
        "prompt": run.prompt,
        "seed": run.seed,
        "created": run.created.replace("T", " ")[:16],
        "status": run.status,
        "outcome": outcome(run),
        "rounds": views,
        "first": views[0] if views else None,
        "best": best,
        "gains": _gains(run),
        "curves": _curves(run, painted),
        "settings": flat_settings(run.settings),
    }


def _round_view(run: Run, item: Round, before: str, load_image: ImageLoader) -> dict[str, Any]:
    assert item.image is not None
    image = load_image(item.image)
    findings = item.diagnosis.findings if item.diagnosis else ()
    words = verdict_words(run, item)
    return {
        "index": item.index,
        "seed": item.seed,
        **picture_view(image, findings, f"Picture of round {item.index}: {item.prompt}"),
        "difference": word_difference(before, item.prompt),
        "changed": before != item.prompt,
        "diagnosed": item.diagnosis is not None,
        "origin": origin_words(item.diagnosis) if item.diagnosis else "",
        "count": count(len(findings), "finding") if findings else "no artifacts found",
        "scores": [(name, f"{value:.3f}") for name, value in score_table(item).items()],
        "verdict": words,
        "badge": {"rolled back": "back", "unfinished": "open"}.get(words, words),
        "reason": reason_words(item),
        "revision": revision_words(item),
        "review": review_words(item),
        "stop": item.verdict.stop if item.verdict else None,
        "seconds": f"{sum(item.seconds.values()):.1f} s",
        "steps": " · ".join(f"{step} {seconds:.2f} s" for step, seconds in item.seconds.items()),
    }


def _overlay(image: Image, findings: Sequence[Finding]) -> str | None:
    if not findings:
        return None
    size = shown_size(image.shape[1], image.shape[0])
    return webp_uri(mask_overlay([finding.mask for finding in findings], size), quality=80)


def _finding_view(number: int, finding: Finding) -> dict[str, Any]:
    across, down = anchor(finding.mask)
    return {
        "number": number,
        "color": "#{:02x}{:02x}{:02x}".format(*color_of(number)),
        "left": f"{across * 100:.1f}",
        "top": f"{down * 100:.1f}",
        "phrase": finding.phrase,
        "explanation": finding.explanation,
        "category": finding.category,
        "confidence": f"{finding.confidence:.0%}",
        "area": f"{finding.area:.0%}" if finding.area >= 0.01 else "<1%",
    }


def _gains(run: Run) -> list[dict[str, str]]:
    """Score of the best round against the first, for every score both have in the same version."""
    if run.best is None or not run.rounds:
        return []
    first = {score.name: score for score in run.rounds[0].scores or ()}
    gains = []
    for after in run.best.scores or ():
        before = first.get(after.name)
        if before is None or before.version != after.version:
            continue
        change = difference(after, before)
        kind = "same" if abs(change) < 5e-4 else "up" if change > 0 else "down"
        gains.append(
            {
                "name": after.name,
                "before": f"{before.value:.3f}",
                "after": f"{after.value:.3f}",
                "change": f"{change:+.3f}",
                "kind": kind,
            }
        )
    return gains


def _curves(run: Run, painted: Sequence[Round]) -> list[dict[str, Any]]:
    series: dict[str, list[Point]] = {}
    for item in painted:
        if item.diagnosis is not None:
            series.setdefault("findings", []).append(_point(run, item, float(len(item.diagnosis.findings))))
        for name, value in score_table(item).items():
            if math.isfinite(value):
                series.setdefault(name, []).append(_point(run, item, value))
    ordered = sorted(series, key=lambda name: name == "findings")
    return [
        {
            "name": name,
            "note": "lower is better" if name == "findings" else "higher is better",
            "svg": curve(name, series[name], whole=name == "findings"),
        }
        for name in ordered
    ]


def _point(run: Run, item: Round, value: float) -> Point:
    accepted = item.verdict is not None and item.verdict.accepted
    return Point(item.index, value, accepted, run.best is not None and run.best.index == item.index)


def _batch_summary(runs: Sequence[Run]) -> dict[str, Any]:
    """What became of a batch, in numbers."""
    finished = [
        run for run in runs if run.best is not None and run.best.diagnosis and run.rounds[0].diagnosis
    ]
    before = sum(bool(run.rounds[0].diagnosis and run.rounds[0].diagnosis.findings) for run in finished)
    after = sum(bool(run.best and run.best.diagnosis and run.best.diagnosis.findings) for run in finished)
    return {"runs": len(runs), "finished": len(finished), "before": before, "after": after}

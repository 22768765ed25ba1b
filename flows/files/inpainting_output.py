"""Files that `legion inpaint` leaves, and its part of `--json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from contracts.records import Candidate, Finding, Image, LeftOut, RegionPlan, Round, Run
from controller.compositing import SourceMap
from controller.inpainting import Preview, source_map
from flows.files.output import ImageLoader, review_values, score_table, write_findings, write_record
from flows.files.picture_files import (
    PALETTE,
    PictureFile,
    what_is_lost,
    write_layer,
    write_mask,
    write_result,
)
from flows.files.pictures import color_of, marked, mask_overlay, shown, shown_size, web_color
from flows.files.provenance import notes, short_form, write_picture
from flows.files.region_colors import RegionColors, layer_colors, region_colors
from memory_bank import SqlMemoryBank
from memory_bank.store import pixel_digest


def write_repair(
    run: Run, source: PictureFile, bank: SqlMemoryBank, folder: Path, stem: str, form: str = "png"
) -> dict[str, Any]:
    """Write the result, its support, its source map, the steps and the run's record, all named after `stem`;
    the run's part of the JSON, `report` left out. Each picture's file says where it comes from.

    `source` is the picture's file, or one made of the memory bank's picture by `from_bank`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shape = source.image.shape[:2]
    result = source.image if run.result is None else bank.image(run.result)
    support = np.zeros(shape, dtype=bool) if run.support is None else run.support
    output = write_result(source, result, folder / f"{stem}-repaired", form, _notes(run, source))
    kept = write_record(run, bank, folder / f"{stem}-run.json")
    support_path = write_mask(source, support, folder / f"{stem}-support.png")
    sources, colors = source_map(run, shape), region_colors(run)
    steps = folder / f"{stem}-steps"
    return {
        "run_id": run.run_id,
        "prompt": run.prompt,
        "input": str(source.path),
        "output": str(output),
        "support": str(support_path),
        **_write_sources(sources, layer_colors(sources.legend, colors), source, folder, stem),
        "notes": [*source.notes, *what_is_lost(source, result, form)],
        "rounds": [
            _write_round(run, item, bank.image, steps, colors)
            for item in run.rounds
            if item.image is not None
        ],
        **kept,
    }


def write_preview(preview: Preview, source: PictureFile, folder: Path, stem: str) -> dict[str, Any]:
    """Write the overlay and the support of a plan; its part of the JSON."""
    plans = preview.plan.regions
    overlay = folder / f"{stem}-plan.png"
    plan_overlay(source.image, plans).save(overlay)
    support = np.zeros(source.image.shape[:2], dtype=bool)
    for plan in plans:
        support |= plan.support
    return {
        "input": str(source.path),
        "support": str(write_mask(source, support, folder / f"{stem}-support.png")),
        "overlay": str(overlay),
        "notes": list(source.notes),
        "findings": len(preview.diagnosis.findings),
        "regions": [
            {**_plan_values(plan, number), "prompt": prompt}
            for number, (plan, prompt) in enumerate(zip(plans, preview.prompts, strict=True), start=1)
        ],
        "left_out": _left_values(preview.plan.left_out),
    }


def from_bank(run: Run, load_image: ImageLoader, folder: Path) -> PictureFile:
    """The picture a run began with as a file in `folder`: the bank keeps what is seen of it."""
    image = load_image(next(item.image for item in run.rounds if item.image is not None))
    path = folder / f"{run.run_id}-input.png"
    folder.mkdir(parents=True, exist_ok=True)
    Pillow.fromarray(image).save(path)
    return PictureFile(path, image, None, 1, {})


def plan_overlay(
    image: Image, plans: Sequence[RegionPlan], colors: Sequence[int] | None = None
) -> Pillow.Image:
    """The picture at report size: supports tinted and outlined, cores numbered in the order of repair.
    `colors` as `mask_overlay` takes them."""
    size = shown_size(image.shape[1], image.shape[0])
    supports = mask_overlay([plan.support for plan in plans], size, colors)
    tinted = Pillow.alpha_composite(shown(image).convert("RGBA"), supports).convert("RGB")
    numbers = [Finding(plan.core, "", "", "distortion", 1.0) for plan in plans]
    return marked(np.asarray(tinted), [_enlarged(f, size) for f in numbers], colors)


def _enlarged(finding: Finding, size: tuple[int, int]) -> Finding:
    mask = Pillow.fromarray(finding.mask).resize(size, Pillow.Resampling.NEAREST)
    return Finding(np.array(mask), "", "", finding.category, 1.0)


def _write_sources(
    sources: SourceMap, colors: Sequence[int], source: PictureFile, folder: Path, stem: str
) -> dict[str, str]:
    """The map, a pixel's value being its layer's number, with a legend beside it; the paths of both. Numbers
    this low are all black to the eye, so they have the colors of a palette while it has room for all."""
    shades = [(0, 0, 0), *map(color_of, colors)]
    few = len(shades) <= PALETTE
    layers, palette = (sources.layers.astype(np.uint8), shades) if few else (sources.layers, [])
    path = write_layer(source, layers, folder / f"{stem}-sources.png", palette)
    legend = path.with_suffix(".json")
    values = {
        "map": path.name,
        "values": "palette indexes" if few else "16-bit gray, which looks black",
        "original_pixels": int((sources.layers == 0).sum()),
        **({"original_color": "#000000"} if few else {}),
        "layers": [
            {**layer, "color": web_color(color)} if few else layer
            for layer, color in zip(sources.describe(), colors, strict=True)
        ],
    }
    legend.write_text(json.dumps(values, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return {"sources": str(legend), "sources_map": str(path)}


def _notes(run: Run, source: PictureFile) -> dict[str, str]:
    """Where a result comes from, for its own file; nothing if nothing was done."""
    last = next((item for item in reversed(run.rounds) if item.image is not None), None)
    if last is None:
        return {}
    facts = short_form(run, last, "result") | {"input": pixel_digest("image", source.image)}
    described = "Description" not in source.extras.get("text", {})
    return {key: value for key, value in notes(facts).items() if described or key != "Description"}


def _write_round(
    run: Run, item: Round, load_image: ImageLoader, folder: Path, colors: RegionColors
) -> dict[str, Any]:
    assert item.image is not None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"round-{item.index}.png"
    image = load_image(item.image)
    write_picture(image, path, short_form(run, item, "picture"))
    findings = item.diagnosis.findings if item.diagnosis else ()
    repairs = item.repairs or ()
    plan = folder / f"round-{item.index}-plan.png"
    if repairs:
        shades = [colors[item.index, number] for number in range(1, len(repairs) + 1)]
        plan_overlay(image, [x.plan for x in repairs], shades).save(plan)
    return {
        "index": item.index,
        "image": str(path),
        "plan": str(plan) if repairs else None,
        "findings": write_findings(findings, folder, f"round-{item.index}"),
        "scores": dict(score_table(item)),
        "regions": [
            _write_repair(run, item, number, load_image, folder) for number, _ in enumerate(repairs, start=1)
        ],
        "left_out": _left_values(item.left_out),
        "accepted": item.verdict.accepted if item.verdict else None,
        "reason": item.verdict.reason if item.verdict else None,
        "stop": item.verdict.stop if item.verdict else None,
        "review": review_values(item),
        "outside": item.outside,
        "seconds": round(sum(item.seconds.values()), 3),
    }


def _write_repair(
    run: Run, item: Round, number: int, load_image: ImageLoader, folder: Path
) -> dict[str, Any]:
    repair, stem = (item.repairs or ())[number - 1], f"round-{item.index}-region-{number}"
    weights = folder / f"{stem}-weights.png"
    Pillow.fromarray(repair.plan.weights).save(weights)
    return {
        **_plan_values(repair.plan, number),
        "weights": str(weights),
        "prompt": repair.prompt,
        "accepted": repair.accepted,
        "reason": repair.reason or None,
        "chosen": repair.chosen,
        "candidates": [
            _write_candidate(
                candidate,
                load_image(candidate.painted),
                folder / f"{stem}-candidate-{n}.png",
                short_form(run, item, f"candidate {n} of region {number}")
                | {"prompt": repair.prompt or "", "seed": candidate.seed},
            )
            for n, candidate in enumerate(repair.candidates, start=1)
        ],
    }


def _write_candidate(
    candidate: Candidate, painted: NDArray[np.uint8], path: Path, facts: Mapping[str, Any]
) -> dict[str, Any]:
    write_picture(painted, path, facts)
    return {
        "seed": candidate.seed,
        "painted": str(path),
        "scores": {score.name: score.value for score in candidate.scores or ()},
        "findings": None if candidate.diagnosis is None else len(candidate.diagnosis.findings),
        "seam": candidate.seam,
        "accepted": candidate.accepted,
        "reason": candidate.reason or None,
    }


def _plan_values(plan: RegionPlan, number: int) -> dict[str, Any]:
    return {
        "region": number,
        "findings": _finding_values(plan.findings),
        "crop": list(plan.crop),
        "painted_at": list(plan.target),
        "pixels": int(plan.support.sum()),
        "gain": plan.gain,
    }


def _left_values(left_out: Sequence[LeftOut]) -> list[dict[str, Any]]:
    return [{"findings": _finding_values(x.findings), "reason": x.reason} for x in left_out]


def _finding_values(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "box": list(f.box),
            "phrase": f.phrase,
            "explanation": f.explanation,
            "category": f.category,
            "confidence": f.confidence,
        }
        for f in findings
    ]

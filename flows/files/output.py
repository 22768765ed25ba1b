"""Files a person or a machine reads afterwards: pictures, masks and the JSON of `--json`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from contracts.errors import InvalidInput
from contracts.records import Diagnosis, Finding, Image, Round, Run
from flows.files.pictures import marked
from flows.files.provenance import short_form, write_chain, write_picture
from memory_bank import SqlMemoryBank
from memory_bank.costs import costs

ImageLoader = Callable[[str], Image]
"""Digest -> picture; the memory bank's `image`."""


def prepare_folder(path: Path) -> Path:
    """Make the folder and prove that it can be written, before anything is painted. Raises InvalidInput."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise InvalidInput(f"cannot write to {path} ({reason.lower()}): choose another folder") from error
    return path.resolve()


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """A folder as `prepare_folder` makes it. It goes again if it was made for this, and what failed or was
    interrupted wrote nothing into it."""
    was_there = os.path.exists(path)  # of a path that cannot even be asked about, no
    folder = prepare_folder(path)
    try:
        yield folder
    finally:
        if not was_there:
            with suppress(OSError):  # something was written
                folder.rmdir()


def write_run(run: Run, bank: SqlMemoryBank, folder: Path) -> dict[str, Any]:
    """Write the run's pictures, masks and record (run.json) into `folder` and return its part of the JSON,
    `report` left out. Each picture's file says where it comes from."""
    folder.mkdir(parents=True, exist_ok=True)
    rounds = [_write_round(run, item, bank.image, folder) for item in run.rounds if item.image is not None]
    kept = write_record(run, bank, folder / "run.json")
    best = run.best
    return {
        "run_id": run.run_id,
        "prompt": run.prompt,
        "rounds": rounds,
        "best": None
        if best is None
        else {"round": best.index, "image": str(folder / f"round-{best.index}.png")},
        **kept,
    }


def write_record(run: Run, bank: SqlMemoryBank, path: Path) -> dict[str, Any]:
    """Write the whole record of a run; where it lies and what each model took, for the JSON."""
    calls = bank.calls(run.run_id)
    record = write_chain(run, bank, calls, path)
    return {"record": str(record), "costs": [asdict(cost) for cost in costs(calls)]}


def write_diagnosis(image: Image, diagnosis: Diagnosis, folder: Path, stem: str) -> dict[str, Any]:
    """Write masks and the marked picture of one diagnosis; return what `legion diagnose --json` prints."""
    overlay = folder / f"{stem}-marked.png"
    marked(image, diagnosis.findings).save(overlay)
    return {
        "synthetic_probability": diagnosis.synthetic_probability,
        "findings": write_findings(diagnosis.findings, folder, stem),
        "overlay": str(overlay),
        "answer": diagnosis.answer,
    }


def score_table(item: Round) -> Mapping[str, float]:
    """Scores of a round by name, in the order in which they were given."""
    return {score.name: score.value for score in item.scores or ()}


def _write_round(run: Run, item: Round, load_image: ImageLoader, folder: Path) -> dict[str, Any]:
    assert item.image is not None
    image = load_image(item.image)
    path = write_picture(image, folder / f"round-{item.index}.png", short_form(run, item, "picture"))
    findings = item.diagnosis.findings if item.diagnosis else ()
    overlay = folder / f"round-{item.index}-marked.png"
    if findings:
        marked(image, findings).save(overlay)
    return {
        "index": item.index,
        "prompt": item.prompt,
        "seed": item.seed,
        "image": str(path),
        "marked": str(overlay) if findings else None,
        "findings": write_findings(findings, folder, f"round-{item.index}"),
        "scores": dict(score_table(item)),
        "accepted": item.verdict.accepted if item.verdict else None,
        "reason": item.verdict.reason if item.verdict else None,
        "revision": _revision(item),
        "review": review_values(item),
        "seconds": round(sum(item.seconds.values()), 3),
    }


def _revision(item: Round) -> dict[str, Any] | None:
    """The next prompt, why it is so, and what a language model took to write it; None if none follows."""
    return None if item.revision is None else asdict(item.revision)


def review_values(item: Round) -> dict[str, Any] | None:
    """What a person said about the round, when, and who; None if nobody was asked."""
    return None if item.review is None else asdict(item.review)


def write_findings(findings: Sequence[Finding], folder: Path, stem: str) -> list[dict[str, Any]]:
    """Write each finding's mask into `folder`, and return them as the JSON has them."""
    return [
        _write_finding(finding, folder / f"{stem}-finding-{number}.png")
        for number, finding in enumerate(findings, start=1)
    ]


def _write_finding(finding: Finding, path: Path) -> dict[str, Any]:
    Pillow.fromarray(finding.mask.astype(np.uint8) * 255).save(path)
    return {
        "box": list(finding.box),
        "mask": str(path),
        "phrase": finding.phrase,
        "explanation": finding.explanation,
        "category": finding.category,
        "confidence": finding.confidence,
    }

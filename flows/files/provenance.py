"""Where a picture comes from: written into its PNG and beside it, and found again from either.

The text chunks of a PNG hold the short form (prompt, seed, run, round, models), the JSON file beside it the
whole chain of its run. A picture that lost both is still found by the digest of its pixels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo

from contracts.digests import file_sha256
from contracts.errors import InvalidInput
from contracts.records import Candidate, Diagnosis, Finding, Image, Recollection, Repair, Round, Run
from defender.image_files import SUFFIXES, read_image
from memory_bank import SqlMemoryBank
from memory_bank.costs import KeptCall
from memory_bank.store import pixel_digest

FORMAT = 1
"""Of the JSON; raised when a reader would misunderstand it."""
CHUNK = "legion"
"""Key of the PNG text with the short form as JSON; `Description` and `Software` are for other programs."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def short_form(run: Run, item: Round, role: str) -> dict[str, Any]:
    """What a picture's own file says about it."""
    return {
        "format": FORMAT,
        "run": run.run_id,
        "round": item.index,
        "role": role,
        "kind": run.kind,
        "prompt": item.prompt or run.prompt,
        "user_prompt": run.prompt,
        "seed": item.seed,
        "created": run.created,
        "models": models(run.settings),
    }


def models(settings: Mapping[str, object]) -> dict[str, object]:
    """The parts of a run's settings that describe a tool, by their place."""
    parts = ("generator", "inpainter", "defender", "selection_scorer", "reporting_scorers", "modifier")
    return {name: settings[name] for name in parts if name in settings}


def chain(
    run: Run,
    job: Mapping[str, Any] | None,
    told: Sequence[Recollection] = (),
    calls: Sequence[KeptCall] = (),
) -> dict[str, Any]:
    """A run's whole record, all content by its digest: enough to check every picture, and to do it anew.
    `told` is what it heard of earlier runs, `calls` what every model call took."""
    return {
        "format": FORMAT,
        "run": run.run_id,
        "kind": run.kind,
        "prompt": run.prompt,
        "seed": run.seed,
        "status": run.status,
        "created": run.created,
        "settings": dict(run.settings),
        "earlier_settings": [dict(earlier) for earlier in run.earlier_settings],
        "asked": None if job is None else dict(job),
        "rounds": [_round(item) for item in run.rounds],
        "result": run.result,
        "told": [
            {"round": one.round, "region": one.region, "lessons": [asdict(lesson) for lesson in one.lessons]}
            for one in told
        ],
        "calls": [asdict(call) for call in calls],
    }


def write_picture(image: Image, path: Path, facts: Mapping[str, Any]) -> Path:
    """A PNG of a uint8 (H, W, 3) picture with its short form in text chunks."""
    text = PngInfo()
    for key, value in notes(facts).items():
        text.add_itxt(key, value)
    Pillow.fromarray(image).save(path, pnginfo=text)
    return path


def notes(facts: Mapping[str, Any]) -> dict[str, str]:
    """A short form as the text chunks of a PNG."""
    return {
        CHUNK: json.dumps(facts, ensure_ascii=False, sort_keys=True),
        "Description": str(facts["prompt"]),
        "Software": "legion-studio",
    }


def export(run: Run, bank: SqlMemoryBank, folder: Path) -> list[Path]:
    """Write every picture, mask and weight of a run and the chain (run.json) into an empty folder."""
    files = [
        write_picture(
            bank.image(digest), folder / f"{name}.png", short_form(run, item, role) | {"digest": digest}
        )
        for item, name, role, digest in _pictures(run)
    ]
    for name, mask in _masks(run):
        files.append(folder / f"{name}.png")
        Pillow.fromarray(mask).save(files[-1])
    return [*files, write_chain(run, bank, bank.calls(run.run_id), folder / "run.json")]


def write_chain(run: Run, bank: SqlMemoryBank, calls: Sequence[KeptCall], path: Path) -> Path:
    """The whole record of a run, its masks read, with what all its model calls took, as JSON."""
    name = run.run_id
    record = chain(run, bank.job(name), bank.recollections(name), calls)
    path.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def is_picture(word: str) -> bool:
    """Whether the word names a picture rather than a run: a file's ending, a path, or a digest."""
    return bool(_DIGEST.fullmatch(word)) or word.lower().endswith(SUFFIXES) or "/" in word


def look_up(word: str, bank: SqlMemoryBank) -> dict[str, Any]:
    """What is known of a picture file or digest: its digest, what its file says, where the bank has it, and
    which run was `written` to a file of the same bytes.

    Raises InvalidInput for a file that cannot be read, or a picture that nothing is known of.
    """
    facts, written, digest = None, [], word
    if not _DIGEST.fullmatch(word):
        image, facts = _read(Path(word))
        digest = pixel_digest("image", image)
        written = [asdict(file) for file in bank.files_with(file_sha256(Path(word)))]
    places = [asdict(place) for place in bank.places(digest)]
    if not places and not written and facts is None:
        raise InvalidInput(
            f"nothing is known of the picture {word}: it is in no run here, and its file says nothing"
        )
    for place in places:
        run = bank.outline(place["run_id"])
        item = run.rounds[place["round"] - 1]
        place |= {"prompt": item.prompt or run.prompt, "seed": item.seed, "models": models(run.settings)}
    for file in written:
        run = bank.outline(file["run_id"])
        file |= {"prompt": run.prompt, "seed": run.seed, "models": models(run.settings)}
    return {"digest": digest, "file": facts, "places": places, "written": written}


def _read(path: Path) -> tuple[Image, dict[str, Any] | None]:
    """The picture's pixels, and its short form if its file has one that can be read."""
    image = read_image(path)
    with Pillow.open(path) as picture:
        text = picture.info.get(CHUNK)
    try:
        facts = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        facts = None
    return image, facts if isinstance(facts, dict) else None


def _pictures(run: Run) -> Iterator[tuple[Round, str, str, str]]:
    """Each picture of a run: its round, a file's name, its role and its digest."""
    for item in run.rounds:
        if item.image is not None:
            yield item, f"round-{item.index}", "picture", item.image
        for number, repair in enumerate(item.repairs or (), start=1):
            for count, candidate in enumerate(repair.candidates, start=1):
                name = f"round-{item.index}-region-{number}-candidate-{count}"
                yield item, name, f"candidate {count} of region {number}", candidate.painted
            if repair.picture is not None:
                yield item, f"round-{item.index}-region-{number}", f"after region {number}", repair.picture
        if item.result is not None:
            yield item, f"round-{item.index}-result", "result", item.result


def _masks(run: Run) -> Iterator[tuple[str, NDArray[Any]]]:
    for item in run.rounds:
        here = f"round-{item.index}"
        yield from _finding_masks(here, item.diagnosis)
        for number, repair in enumerate(item.repairs or (), start=1):
            yield f"{here}-region-{number}-core", repair.plan.core
            yield f"{here}-region-{number}-weights", repair.plan.weights
            for count, candidate in enumerate(repair.candidates, start=1):
                yield from _finding_masks(f"{here}-region-{number}-candidate-{count}", candidate.diagnosis)
        for number, left in enumerate(item.left_out, start=1):
            yield f"{here}-left-out-{number}", left.mask


def _finding_masks(prefix: str, diagnosis: Diagnosis | None) -> Iterator[tuple[str, NDArray[Any]]]:
    for number, finding in enumerate(diagnosis.findings if diagnosis else (), start=1):
        yield f"{prefix}-finding-{number}", finding.mask


def _round(item: Round) -> dict[str, Any]:
    return {
        "round": item.index,
        "prompt": item.prompt,
        "seed": item.seed,
        "image": item.image,
        "diagnosis": None if item.diagnosis is None else _diagnosis(item.diagnosis),
        "scores": None if item.scores is None else [asdict(score) for score in item.scores],
        "review": None if item.review is None else asdict(item.review),
        "verdict": None if item.verdict is None else asdict(item.verdict),
        "revision": None if item.revision is None else asdict(item.revision),
        "regions": None if item.repairs is None else [_repair(repair) for repair in item.repairs],
        "left_out": [
            {"findings": [_finding(f) for f in x.findings], "mask": _mask_digest(x.mask), "reason": x.reason}
            for x in item.left_out
        ],
        "result": item.result,
        "outside": item.outside,
        "seconds": dict(item.seconds),
    }


def _repair(repair: Repair) -> dict[str, Any]:
    plan = repair.plan
    return {
        "findings": [_finding(finding) for finding in plan.findings],
        "core": _mask_digest(plan.core),
        "weights": pixel_digest("weight", plan.weights),
        "crop": list(plan.crop),
        "target": list(plan.target),
        "gain": plan.gain,
        "prompt": repair.prompt,
        "candidates": [_candidate(candidate) for candidate in repair.candidates],
        "accepted": repair.accepted,
        "reason": repair.reason,
        "chosen": repair.chosen,
        "picture": repair.picture,
        "answers": [asdict(answer) for answer in repair.answers],
        "usage": asdict(repair.usage),
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "seed": candidate.seed,
        "painted": candidate.painted,
        "diagnosis": None if candidate.diagnosis is None else _diagnosis(candidate.diagnosis),
        "scores": None if candidate.scores is None else [asdict(score) for score in candidate.scores],
        "seam": candidate.seam,
        "outside": candidate.outside,
        "accepted": candidate.accepted,
        "reason": candidate.reason,
    }


def _diagnosis(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "synthetic_probability": diagnosis.synthetic_probability,
        "answer": diagnosis.answer,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "phrase": finding.phrase,
        "explanation": finding.explanation,
        "category": finding.category,
        "confidence": finding.confidence,
        "mask": _mask_digest(finding.mask),
    }


def _mask_digest(mask: NDArray[Any]) -> str:
    return pixel_digest("mask", mask)

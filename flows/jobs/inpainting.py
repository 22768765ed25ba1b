"""What a person asked `legion inpaint` for, as plain values, and the one way in which it is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from contracts.errors import InvalidInput
from contracts.protocols import MemoryBank
from contracts.records import Mask, Run
from controller.inpainting import KIND, InpaintingCase, InpaintingSettings, InpaintingTools, inpaint
from controller.prompt_rules import clean_prompt
from controller.regions import RegionSettings
from controller.reviewing import Reviewer
from controller.steps import StepRunner, call_step, chunks, ignore
from defender.image_files import image_files
from flows.files.picture_files import PictureFile, check_format, read_mask, read_picture
from flows.jobs import keeping
from flows.jobs.approval import recorded
from flows.jobs.parameters import Parameters
from flows.jobs.regeneration import Listener, run_ids, slug
from flows.profiles.loading import Profile

LOCKSTEP = 32
"""Pictures that are worked on together. More would only fill the memory: no result depends on it."""
LINE_KEYS = ("image", "prompt", "mask", "protect", "seed")


@dataclass(frozen=True)
class PictureRequest:
    """One picture to repair, as a person named it."""

    path: Path
    prompt: str = ""
    seed: int = 0
    mask: Path | None = None
    protect: Path | None = None


@dataclass(frozen=True)
class PictureCase:
    """One picture of a job: plain values, so that it can be a flow's parameter. Paths are absolute."""

    run_id: str
    path: str
    prompt: str
    seed: int
    mask: str | None = None
    protect: str | None = None


@dataclass(frozen=True)
class InpaintingJob(Parameters):
    """One call of the loop."""

    profile: str
    cases: tuple[PictureCase, ...]
    rounds: int
    candidates: int
    tries: int
    strength: float
    match_colors: bool
    quality: str
    regions: Mapping[str, Any]
    """Fields of RegionSettings."""
    steps: int | None
    """The profile's if None, and so below."""
    guidance_scale: float | None
    batch_size: int
    painter: Mapping[str, Any] = field(default_factory=dict)
    """Values in place of those of the profile's generator."""
    memory: bool = False
    """Whether the words for a region look up what helped in earlier runs."""
    accept_changes: bool = False
    """Whether a run that began with other settings goes on with these."""

    case_class: ClassVar[type[PictureCase]] = PictureCase

    def settings(self) -> InpaintingSettings:
        """The loop's settings. Raises InvalidInput."""
        return InpaintingSettings(
            rounds=self.rounds,
            candidates=self.candidates,
            tries=self.tries,
            strength=self.strength,
            match_colors=self.match_colors,
            quality=self.quality,
            regions=RegionSettings(**self.regions),
            batch_size=self.batch_size,
            memory=self.memory,
        )


def make_job(
    profile_name: str,
    profile: Profile,
    requests: Sequence[PictureRequest],
    run_id: str,
    *,
    regions: Mapping[str, Any] | None = None,
    painter: Mapping[str, Any] | None = None,
    accept_changes: bool = False,
    **changes: Any,
) -> InpaintingJob:
    """A job from checked values; what is None or not named comes from the profile. Raises InvalidInput."""
    section = profile.inpainting
    given = {name: value for name, value in changes.items() if value is not None}
    values: dict[str, Any] = {
        name: getattr(section, name)
        for name in InpaintingJob.__dataclass_fields__
        if hasattr(section, name) and name != "regions"
    }
    values["batch_size"] = profile.generator.batch_size
    chosen = {name: value for name, value in (regions or {}).items() if value is not None}
    job = InpaintingJob(
        profile=profile_name,
        cases=tuple(_case(i, r) for i, r in zip(run_ids(run_id, len(requests)), requests, strict=True)),
        regions={**section.regions.model_dump(), **chosen},
        painter=dict(painter or {}),
        accept_changes=accept_changes,
        **(values | given),
    )
    job.settings()
    return job


@dataclass(frozen=True, eq=False)
class Opened:
    """A case with its files read."""

    case: PictureCase
    file: PictureFile
    mask: Mask | None
    protected: Mask | None

    def for_loop(self) -> InpaintingCase:
        """What the loop works on. Transparent pixels are protected: nobody sees them."""
        protected, unseen = self.protected, self.file.unseen
        if unseen is not None and unseen.any():
            protected = unseen if protected is None else protected | unseen
        case = self.case
        return InpaintingCase(case.run_id, self.file.image, case.prompt, case.seed, self.mask, protected)


def open_case(case: PictureCase) -> Opened:
    """Read a case's files. Raises InvalidInput for those that cannot be used."""
    file = read_picture(Path(case.path))
    shape = file.image.shape[:2]
    mask = None if case.mask is None else read_mask(Path(case.mask), shape)
    protected = None if case.protect is None else read_mask(Path(case.protect), shape)
    return Opened(case, file, mask, protected)


def readable(job: InpaintingJob, form: str = "png") -> tuple[InpaintingJob, list[tuple[str, str]]]:
    """The job without the pictures that cannot be used, or whose result could not be written in the format,
    and those with the reason."""
    cases: list[PictureCase] = []
    failures: list[tuple[str, str]] = []
    for case in job.cases:
        try:
            check_format(open_case(case).file, form)
            cases.append(case)
        except InvalidInput as error:
            failures.append((case.path, str(error)))
    return replace(job, cases=tuple(cases)), failures


def execute(
    job: InpaintingJob,
    tools: InpaintingTools,
    bank: MemoryBank,
    run_step: StepRunner = call_step,
    on_event: Listener = ignore,
    reviewer: Reviewer | None = None,
) -> list[Run]:
    """Run the loop for a job, some pictures at a time. With Prefect or without it, everything passes here."""
    runs: list[Run] = []
    for part in chunks(job.cases, LOCKSTEP):
        cases = [open_case(case).for_loop() for case in part]
        asked = keeping.asked(bank, replace(job, cases=tuple(part)))
        given = {case.run_id: case for case in cases}
        anew = partial(_anew, given, tools, job.settings(), bank)
        keeping.take_up(bank, KIND, asked, partial(_first_picture, given), tools.defender, anew)
        runs += inpaint(
            cases, tools, bank, job.settings(), run_step=run_step, on_event=on_event, reviewer=reviewer
        )
    return runs


def _first_picture(given: Mapping[str, InpaintingCase], run_id: str) -> keeping.Paint:
    """The person's picture; what later rounds begin with is made of it step by step, not by one call."""
    return lambda item: given[run_id].image if item.index == 1 else None


def _anew(
    given: Mapping[str, InpaintingCase],
    tools: InpaintingTools,
    settings: InpaintingSettings,
    bank: MemoryBank,
    run_id: str,
    scratch: MemoryBank,
    run_step: StepRunner,
) -> None:
    """Do one run from its beginning, in another bank; whoever was asked about it says the same again."""
    said = recorded(bank.outline(run_id))
    inpaint([given[run_id]], tools, scratch, settings, run_step=run_step, reviewer=said)


def requests_for(
    inputs: Sequence[Path], prompt: str, seed: int, mask: Path | None, protect: Path | None
) -> list[PictureRequest]:
    """Pictures named one by one, all pictures of folders, and the lines of .jsonl files, in order.

    What a line says goes before what is given for all. Raises InvalidInput for what is not there, a folder
    without pictures, and a line that cannot be used.
    """
    common = PictureRequest(Path(), clean_prompt(prompt) if prompt.strip() else "", seed, mask, protect)
    requests = [request for path in inputs for request in _named(path, common)]
    if not requests:
        raise InvalidInput(
            "no picture: name a file, a folder or a .jsonl file, as in legion inpaint photo.png"
        )
    return requests


def new_run_id(requests: Sequence[PictureRequest], make: Callable[[Sequence[str]], str]) -> str:
    """A readable id after the picture's name."""
    return make([slug(request.path.stem) for request in requests])


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A name for each picture's results: its own without ending, numbered where two are the same."""
    names: list[str] = []
    for path in paths:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}-{number}", number + 1
        names.append(name)
    return names


def _case(run_id: str, request: PictureRequest) -> PictureCase:
    def absolute(path: Path | None) -> str | None:
        return None if path is None else str(path.expanduser().resolve())

    path, mask, protect = map(absolute, (request.path, request.mask, request.protect))
    return PictureCase(run_id, path or "", request.prompt, request.seed, mask, protect)


def _named(path: Path, common: PictureRequest) -> Iterator[PictureRequest]:
    if path.is_dir():
        files = image_files(path)
        if not files:
            raise InvalidInput(f"there is no picture in the folder {path}")
        yield from (replace(common, path=file) for file in files)
    elif path.suffix.lower() == ".jsonl":
        yield from _lines(path, common)
    else:
        yield replace(common, path=path)


def _lines(path: Path, common: PictureRequest) -> Iterator[PictureRequest]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _line(line, path.parent, common, f"{path}, line {number}")


def _line(line: str, base: Path, common: PictureRequest, place: str) -> PictureRequest:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise InvalidInput(f"{place}: not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("image"), str):
        raise InvalidInput(f'{place}: write an object with an image, as in {{"image": "photo.png"}}')
    if unknown := sorted(set(values) - set(LINE_KEYS)):
        raise InvalidInput(f"{place}: unknown key {unknown[0]!r}: use {', '.join(LINE_KEYS)}")
    for name in ("prompt", "mask", "protect"):
        if not isinstance(values.get(name, ""), str):
            raise InvalidInput(f"{place}: {name} must be text")
    seed = values.get("seed", common.seed)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise InvalidInput(f"{place}: seed must be a whole number, 0 or more")
    prompt = values.get("prompt", "")
    try:
        cleaned = clean_prompt(prompt) if prompt.strip() else common.prompt
    except InvalidInput as error:
        raise InvalidInput(f"{place}: {error}") from error
    return PictureRequest(
        base / values["image"],
        cleaned,
        seed,
        base / values["mask"] if values.get("mask") else common.mask,
        base / values["protect"] if values.get("protect") else common.protect,
    )

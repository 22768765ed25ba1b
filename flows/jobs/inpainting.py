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
from contracts.seeds import MAX_SEED
from controller.inpainting import KIND, InpaintingCase, InpaintingSettings, InpaintingTools, inpaint
from controller.prompt_rules import clean_prompt
from controller.regions import RegionSettings, count_parts
from controller.reviewing import Reviewer
from controller.steps import StepRunner, call_step, chunks, ignore
from defender.image_files import image_files
from flows.files.mask_files import read_mask, read_protected
from flows.files.picture_files import PictureFile, check_format, read_picture
from flows.jobs import keeping
from flows.jobs.approval import recorded
from flows.jobs.parameters import Parameters
from flows.jobs.regeneration import Listener, run_ids, slug
from flows.profiles.loading import Profile

LOCKSTEP = 32
"""Pictures that are worked on together. More would only fill the memory: no result depends on it."""
LINE_KEYS = ("image", "prompt", "mask", "protect", "seed")
FILE_KEYS = ("image", "mask", "protect")
MANY_PARTS = 16
"""Parts of a mask above which a person is told what painting them takes."""


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
    """None also if the file marks nothing."""

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
    protected = None if case.protect is None else read_protected(Path(case.protect), shape)
    return Opened(case, file, mask, protected)


def readable(
    job: InpaintingJob, form: str = "png", tell: Callable[[str], None] = lambda remark: None
) -> tuple[InpaintingJob, list[tuple[str, str]]]:
    """The job without the pictures that cannot be used, or whose result could not be written in the format,
    and those with the reason. `tell` is called once with each thing worth knowing of the masks."""
    cases: list[PictureCase] = []
    failures: list[tuple[str, str]] = []
    remarks: dict[str, None] = {}
    for case in job.cases:
        try:
            opened = open_case(case)
            check_format(opened.file, form)
            cases.append(case)
            remarks |= dict.fromkeys(_remarks(opened, job.candidates))
        except InvalidInput as error:
            failures.append((case.path, str(error)))
    for remark in remarks:
        tell(remark)
    return replace(job, cases=tuple(cases)), failures


def _remarks(opened: Opened, candidates: int) -> Iterator[str]:
    """What a person may not expect of the masks that were given."""
    case = opened.case
    if case.protect is not None and opened.protected is None:
        yield f"the protected area {case.protect} is empty: it protects nothing"
    if opened.mask is not None:
        parts = count_parts(opened.mask, opened.for_loop().protected)
        if parts > MANY_PARTS:
            yield (
                f"the mask {case.mask} has {parts} parts, and each is painted by itself: "
                f"{parts * candidates} paintings in the first round"
            )


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
    return [request for path in inputs for request in _named(path, common)]


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
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror or error}") from error
    filled = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not filled:
        raise InvalidInput(f'{path} has no lines: write one for each picture, as in {{"image": "photo.png"}}')
    for number, line in filled:
        try:
            yield _line(line, path.parent, common)
        except InvalidInput as error:
            raise InvalidInput(f"{path}, line {number}: {error}") from error


def _line(line: str, base: Path, common: PictureRequest) -> PictureRequest:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not JSON: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("image"), str):
        raise InvalidInput('write an object with an image, as in {"image": "photo.png"}')
    if unknown := sorted(set(values) - set(LINE_KEYS)):
        raise InvalidInput(f"unknown key {unknown[0]!r}: use {', '.join(LINE_KEYS)}")
    for name in ("prompt", "mask", "protect"):
        if not isinstance(values.get(name, ""), str):
            raise InvalidInput(f"{name} must be text")
    if not values["image"]:
        raise InvalidInput("image is empty: name a picture file")
    files = {name: _file(name, base, given) for name in FILE_KEYS if (given := values.get(name))}
    seed = values.get("seed", common.seed)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"seed must be a whole number from 0 to {MAX_SEED}")
    prompt = values.get("prompt", "")
    return PictureRequest(
        files["image"],
        clean_prompt(prompt) if prompt.strip() else common.prompt,
        seed,
        files.get("mask", common.mask),
        files.get("protect", common.protect),
    )


def _file(name: str, base: Path, given: str) -> Path:
    """A file that a line names. One that is not there is found later, with what else is wrong in its
    picture: only that one is left out."""
    path = base / given
    try:
        is_folder = path.expanduser().resolve().is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise InvalidInput(f"{name} {given!r} cannot be the name of a file: name a picture file") from error
    if is_folder:
        raise InvalidInput(f"{name} {given} is a folder: name a picture file")
    return path

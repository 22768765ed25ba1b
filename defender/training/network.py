"""`legion train network`: people's own pictures in, a defender's checkpoint out.

OUT/samples.json     which samples are used, which are broken and why, and which are held out
OUT/settings.json    what was asked for
OUT/STAGE.*          log and state of the run; the same command goes on where it was stopped
OUT/best, OUT/last   checkpoints that LegionDefender loads: least validation loss, and the end
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from contracts.errors import InvalidInput
from defender import checkpoint
from defender.answers import OPENING
from defender.catalog import open_samples
from defender.datasets import Collator, Sample, Samples
from defender.folders import PlainFolder, Subset, inspect
from defender.model import Legion
from defender.training.adapters import add_adapters, fold
from defender.training.engine import processes
from defender.training.loop import Extras, Keep
from defender.training.reporting import check_tracker
from defender.training.schedule import Outcome, Schedule, essence
from defender.training.settings import Settings
from defender.training.stages import train_joint, train_stage1, train_stage2

_FIRST_WORD = OPENING.split(maxsplit=1)[0]
SAMPLES, SETTINGS = "samples.json", "settings.json"
UNANNOTATED = ("plain", "folders")
"""Formats that say nothing about what is wrong in a picture."""
PARTLY_ANNOTATED = ("loki", "richhf")
"""Formats in which a generated picture without an artifact may have some: LOKI tells flaws of a picture as a
whole, and RichHF-18K's raters marked what struck them."""


@dataclass(frozen=True)
class Source:
    """Where the samples are."""

    root: Path | None
    format: str
    split: str = "train"
    clean: Path | None = None
    """A folder of photographs without artifacts, which count as real: what a defender learns silence from."""
    made: Callable[[str], Samples] | None = None
    """Gives the samples of a split where they are not on disk but made as they are asked for."""

    def samples(self, split: str) -> Samples:
        """The samples of a split. Raises InvalidInput where the data set is not as expected."""
        if self.made is not None:
            return self.made(split)
        if self.root is None:
            raise InvalidInput(f"the format {self.format} needs the folder of a data set")
        return open_samples(self.format, self.root, split)

    @property
    def title(self) -> str:
        """What to call it in a message."""
        return str(self.root or self.format)


@dataclass(frozen=True)
class Gathered:
    """What is trained on, and what is held out."""

    training: Samples
    validation: Samples | None
    broken: int
    digest: str
    """sha256 of all that the two hold, in order: a run is not resumed on others."""
    other_openings: bool
    """Whether an answer about artifacts opens in other words than this project's own."""


@dataclass(frozen=True)
class Result:
    """What a training made."""

    outcome: Outcome
    best: Path | None
    last: Path | None
    trained_on: int
    held_out: int
    broken: int


class Together:
    """Data sets one after the other."""

    def __init__(self, parts: Sequence[Samples]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> Sample:
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.parts[part][index - int(self.starts[part])]


class _Counting:
    """Samples that note, as they are read, what they could teach, and a digest of each."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.counts = {"real": 0, "generated": 0, "artifacts": 0, "other openings": 0}
        self.digests: dict[int, str] = {}
        self.unmarked: list[int] = []
        """Generated pictures without an artifact."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self.samples[index]
        self.counts["real"] += sample.is_real is True
        self.counts["generated"] += sample.is_real is False
        self.counts["artifacts"] += len(sample.findings)
        self.counts["other openings"] += bool(sample.answer) and not sample.answer.startswith(_FIRST_WORD)
        self.digests[index] = digest_of(sample)
        if sample.is_real is not True and not sample.findings:
            self.unmarked.append(index)
        return sample


def digest_of(sample: Sample) -> str:
    """sha256 of all that a sample teaches."""
    total = hashlib.sha256(np.ascontiguousarray(sample.image).data)
    said = [(f.phrase, f.explanation, f.category) for f in sample.findings]
    total.update(repr((sample.image.shape, sample.is_real, sample.answer, said)).encode())
    for finding in sample.findings:
        total.update(np.packbits(finding.mask).data)
    return total.hexdigest()


def train_network(source: Source, settings: Settings, out: Path, start: Path) -> Result | None:
    """Train one stage, or go on with it. `start` is used where the settings name no checkpoint.

    None in the processes of a training other than its main one.

    Raises InvalidInput or CheckpointError, in one line, where data, settings or an earlier state in `out`
    cannot be used.
    """
    check_tracker(settings.tracker)
    if settings.stage != "2" and source.format in UNANNOTATED:
        raise InvalidInput(
            f"stage {settings.stage} learns from artifacts with masks and words, and the format "
            f"{source.format} has none: use synthscars, loki or richhf, or train stage 2"
        )
    loaded = checkpoint.load(settings.start or start)
    gathered = gather(source, settings, out)
    samples, held_out = gathered.training, gathered.validation
    model, dialog = loaded.model, loaded.dialog
    model.requires_grad_(True)
    model.config = replace(model.config, lora=settings.lora_settings, loss=settings.loss_weights)
    if gathered.other_openings and model.config.verdict_first:
        # What it learns to say first no longer tells flawed from clean.
        model.config = replace(model.config, verdict_first=False)
    adapted = settings.trainable == "paper" and settings.stage != "2"
    if settings.stage == "1" and settings.trainable == "all":
        model.config = replace(model.config, has_detection=False)  # its head read features that now change
    if adapted:
        add_adapters(model, settings.lora_settings, settings.schedule.seed)

    def keep(folder: Path) -> Keep:
        def write(weights: Mapping[str, Tensor]) -> None:
            plain = fold(weights, settings.lora_settings) if adapted else weights
            dtype = getattr(torch, settings.save_dtype)
            checkpoint.save(folder, model, dialog.tokenizer, dtype=dtype, weights=plain)

        return write

    extras = Extras(
        held_out, keep(out / "best"), keep(out / "last"), settings.tracker, loaded.digest, gathered.digest
    )
    schedule = settings.schedule_for(len(samples))
    if processes().is_main_process:
        (out / SETTINGS).write_text(_settings_text(source, settings, schedule), encoding="utf-8")
    collate = Collator(model.config, dialog)
    outcome = _train(model, samples, collate, settings, schedule, out, extras)
    if not processes().is_main_process:
        return None
    best, last = out / "best", out / "last"
    return Result(
        outcome,
        best if best.exists() else None,
        last if last.exists() else None,
        len(samples),
        len(held_out) if held_out is not None else 0,
        gathered.broken,
    )


def _train(
    model: Legion,
    samples: Samples,
    collate: Collator,
    settings: Settings,
    schedule: Schedule,
    out: Path,
    extras: Extras,
) -> Outcome:
    if settings.stage == "2":
        return train_stage2(model, samples, collate, schedule, out, extras=extras)
    options: dict[str, Any] = {
        "trainable": settings.trainable,
        "frozen_dtype": getattr(torch, settings.frozen_dtype),
        "mask_boost": 1.0,
        "extras": extras,
    }
    if settings.stage == "1":
        return train_stage1(model, samples, collate, schedule, out, **options)
    weight = settings.loss.detection
    return train_joint(model, samples, collate, schedule, out, detection_weight=weight, **options)


# ---- which samples


def gather(source: Source, settings: Settings, out: Path) -> Gathered:
    """The samples of a training.

    Every sample is read once before the first step, by the main process, and the outcome is kept in
    OUT/samples.json: a resumed run reads that. Raises InvalidInput where too little is left.
    """
    parts = [source.samples(source.split)]
    if source.clean is not None:
        parts.append(PlainFolder(source.clean, is_real=True))
    everything = Together(parts)
    facts = _inspected(everything, "samples", source, out)
    _check_contents(facts["counts"], settings, source)
    usable, digests = _teaching(facts, source, settings), facts["digests"]
    validation = settings.validation
    if validation.split is not None:
        others = source.samples(validation.split)
        other_facts = _inspected(others, f"samples of {validation.split}", source, out)
        kept = _teaching(other_facts, source, settings)[: validation.samples]
        return Gathered(
            Subset(everything, tuple(usable)),
            Subset(others, tuple(kept)),
            len(facts["broken"]),
            _digest([digests[str(i)] for i in usable], [other_facts["digests"][str(i)] for i in kept]),
            bool(facts["counts"]["other openings"]),
        )
    order = np.random.default_rng([settings.schedule.seed, 7]).permutation(len(usable))
    count = min(validation.samples, round(validation.share * len(usable)))
    chosen = {int(i) for i in order[:count]}
    held = tuple(index for place, index in enumerate(usable) if place in chosen)
    rest = tuple(index for place, index in enumerate(usable) if place not in chosen)
    return Gathered(
        Subset(everything, rest),
        Subset(everything, held) if held else None,
        len(facts["broken"]),
        _digest([digests[str(i)] for i in rest], [digests[str(i)] for i in held]),
        bool(facts["counts"]["other openings"]),
    )


def _teaching(facts: Mapping[str, Any], source: Source, settings: Settings) -> list[int]:
    """The usable samples that a stage may learn from: where no annotation means not known, nothing may be
    said of a picture without one."""
    usable: list[int] = facts["usable"]
    if settings.stage == "2" or source.format not in PARTLY_ANNOTATED:
        return usable
    return sorted(set(usable) - set(facts["unmarked"]))


def _digest(training: Sequence[str], held_out: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps([training, held_out]).encode()).hexdigest()


def _inspected(samples: Samples, what: str, source: Source, out: Path) -> dict[str, Any]:
    """Usable and broken samples, from OUT/samples.json or by reading each of them once."""
    path = out / SAMPLES
    label = f"{source.format} {source.root or ''} {source.clean or ''} {what} {len(samples)}"
    state = processes()
    if state.is_main_process and "unmarked" not in _known(path).get(label, {}):
        out.mkdir(parents=True, exist_ok=True)
        counting = _Counting(samples)
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"reading the {what}", total=len(samples))
            found = inspect(counting, lambda done: bar.update(task, completed=done))
        if found.broken:
            console.print(found.report, markup=False, highlight=False, soft_wrap=True)
        facts = {
            "usable": found.usable,
            "broken": found.broken,
            "counts": counting.counts,
            "digests": counting.digests,
            "unmarked": counting.unmarked,
        }
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps({**_known(path), label: facts}), encoding="utf-8")
        partial.replace(path)
    state.wait_for_everyone()
    facts = _known(path)[label]
    return facts


def _known(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read ({error}): remove it") from error
    return dict(known)


def _check_contents(counts: Mapping[str, int], settings: Settings, source: Source) -> None:
    if settings.stage != "2" and not counts["artifacts"]:
        raise InvalidInput(f"no sample of {source.title} has an artifact to learn from")
    if settings.stage != "1" and not (counts["real"] and counts["generated"]):
        raise InvalidInput(
            f"detection needs real and generated pictures, and {source.title} has {counts['real']} real and "
            f"{counts['generated']} generated ones: add photographs with --clean FOLDER, or use the format "
            "folders"
        )


def _settings_text(source: Source, settings: Settings, schedule: Schedule) -> str:
    """What was asked for, the schedule as it came out of it."""
    facts = {
        "source": {name: getattr(source, name) for name in ("root", "format", "split", "clean")},
        "settings": settings.model_dump(exclude={"schedule"}),
        "schedule": essence(schedule),
    }
    return json.dumps(facts, indent=2, default=str) + "\n"

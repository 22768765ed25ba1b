"""Before a loop begins: keep what was asked for, and make anew what the store has lost of earlier steps.

A picture's digest is of what it shows, so whatever is made anew has to come out the same, or the run cannot
go on: its later steps looked at the lost picture. What a round began with is painted again by itself, masks
come of looking again. Inside an inpainting round each picture is made of those before it: there the run is
done anew, in a bank that is thrown away, up to the step that makes the last of what is lost.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, TypeVar

from contracts.errors import InvalidInput, MemoryBankError, RunNotFound
from contracts.protocols import Defender, Generator, MemoryBank
from contracts.records import Content, GenerationRequest, Image, Round
from controller.steps import StepRunner
from memory_bank import open_memory_bank

Paint = Callable[[Round], Image | None]
"""The picture that a round began with, or None if it cannot be made by one call."""
Anew: TypeAlias = Callable[[str, MemoryBank, StepRunner], None]
"""Does a run from its beginning in another bank."""
Lost: TypeAlias = tuple[Literal["image", "mask", "weight"], str]
"""Kind and digest."""
J = TypeVar("J", bound=Any)
"""A job of either kind."""


def take_up(
    bank: MemoryBank,
    kind: str,
    jobs: Mapping[str, Mapping[str, Any]],
    paint: Callable[[str], Paint],
    defender: Defender,
    anew: Anew | None = None,
) -> None:
    """Keep the job of each run and restore what is lost of it; `paint` is asked for the run's pictures, then
    `anew` for what remains. Raises MemoryBankError if that fails."""
    for run_id, job in jobs.items():
        bank.keep_job(run_id, {"kind": kind, "job": job})
        if lost := bank.lost(run_id):
            missing = restore(bank, run_id, lost, paint(run_id), defender)
            if missing and anew is not None:
                missing = _redo(bank, run_id, missing, anew)
            if missing:
                raise _stays_lost(run_id, missing)


def asked(bank: MemoryBank, job: J) -> dict[str, dict[str, Any]]:
    """What to keep of a job, a part for each of its runs. Leave to change is given to the bank, and for this
    once only. Raises InvalidInput for fewer rounds than a run has begun."""
    if job.accept_changes:
        for case in job.cases:
            _check_rounds(bank, case.run_id, job.rounds)
            bank.allow_changes(case.run_id)
    lasting = replace(job, accept_changes=False)
    return {case.run_id: replace(lasting, cases=(case,)).as_parameters() for case in job.cases}


def _check_rounds(bank: MemoryBank, run_id: str, rounds: int) -> None:
    with contextlib.suppress(RunNotFound):
        begun = len(bank.outline(run_id).rounds)
        if begun > rounds:
            raise InvalidInput(f"run {run_id} has begun round {begun}: choose --rounds {begun} or more")


def repaint(generator: Generator) -> Paint:
    """Paints a round's prompt with its seed."""
    return lambda item: generator.generate([GenerationRequest(item.prompt, item.seed)])[0]


def restore(
    bank: MemoryBank, run_id: str, lost: Sequence[Content], paint: Paint, defender: Defender
) -> set[Lost]:
    """Make lost pictures that rounds began with anew, and masks of what is found in them; what stays lost."""
    missing: set[Lost] = {(item.kind, item.digest) for item in lost}
    rounds = [item for item in bank.outline(run_id).rounds if item.image is not None]
    for item in rounds:
        if ("image", item.image) in missing and (image := paint(item)) is not None:
            missing.discard(("image", bank.put_back("image", image)))
    for item in rounds:
        looked_at = item.diagnosis is not None and ("image", item.image) not in missing
        if looked_at and any(kind == "mask" for kind, _ in missing):
            (found,) = defender.diagnose([bank.image(item.image or "")])
            missing -= {("mask", bank.put_back("mask", finding.mask)) for finding in found.findings}
    return missing


def _redo(bank: MemoryBank, run_id: str, missing: set[Lost], anew: Anew) -> set[Lost]:
    """Do the run anew, as far as it takes, and put back what it makes of what is missing; what stays lost."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store")
        scratch.keep_recollections(run_id, bank.recollections(run_id))

        def run_step(_label: str, work: Callable[[], None]) -> None:
            work()
            if all(scratch.content(*item) is not None for item in missing):
                raise _Enough

        try:
            with contextlib.suppress(_Enough):
                anew(run_id, scratch, run_step)
            made = {item: scratch.content(*item) for item in missing}
        finally:
            scratch.close()
    for (kind, _), pixels in made.items():
        if pixels is not None:
            bank.put_back(kind, pixels)
    return {item for item, pixels in made.items() if pixels is None}


class _Enough(Exception):
    """Everything that was lost is made."""


def _stays_lost(run_id: str, missing: set[Lost]) -> MemoryBankError:
    kind, digest = min(missing)
    return MemoryBankError(
        f"run {run_id} cannot go on: {len(missing)} of its files are lost, one is the {kind} {digest[:12]}, "
        "and they cannot be made again here; restore the image store from a copy, or use another run id"
    )

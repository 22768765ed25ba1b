"""Before a loop begins: keep what was asked for, and make anew what the store has lost of earlier steps.

A picture's digest is of what it shows, so whatever is made anew has to come out the same, or the run cannot
go on: its later steps looked at the lost picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from contracts.errors import MemoryBankError
from contracts.protocols import Defender, Generator, MemoryBank
from contracts.records import Content, GenerationRequest, Image, Round

Paint = Callable[[Round], Image | None]
"""The picture that a round began with, or None if it cannot be made anew."""


def take_up(
    bank: MemoryBank,
    kind: str,
    jobs: Mapping[str, Mapping[str, Any]],
    paint: Callable[[str], Paint],
    defender: Defender,
) -> None:
    """Keep the job of each run and restore what is lost of it; `paint` is asked for the run's pictures.
    Raises MemoryBankError if that fails."""
    for run_id, job in jobs.items():
        bank.keep_job(run_id, {"kind": kind, "job": job})
        if lost := bank.lost(run_id):
            restore(bank, run_id, lost, paint(run_id), defender)


def repaint(generator: Generator) -> Paint:
    """Paints a round's prompt with its seed."""
    return lambda item: generator.generate([GenerationRequest(item.prompt, item.seed)])[0]


def restore(bank: MemoryBank, run_id: str, lost: Sequence[Content], paint: Paint, defender: Defender) -> None:
    """Make lost pictures and masks of a run's rounds anew. Raises MemoryBankError for what stays lost."""
    missing = {(item.kind, item.digest) for item in lost}
    rounds = [item for item in bank.outline(run_id).rounds if item.image is not None]
    for item in rounds:
        if ("image", item.image) in missing and (image := paint(item)) is not None:
            missing.discard(("image", bank.put_back("image", image)))
    if any(kind == "image" for kind, _ in missing):
        raise _stays_lost(run_id, missing)
    for item in rounds:
        if item.diagnosis is not None and any(kind == "mask" for kind, _ in missing):
            (found,) = defender.diagnose([bank.image(item.image or "")])
            missing -= {("mask", bank.put_back("mask", finding.mask)) for finding in found.findings}
    if missing:
        raise _stays_lost(run_id, missing)


def _stays_lost(run_id: str, missing: set[tuple[Any, str]]) -> MemoryBankError:
    kind, digest = min(missing)
    return MemoryBankError(
        f"run {run_id} cannot go on: {len(missing)} of its files are lost, one is the {kind} {digest[:12]}, "
        "and they cannot be made again here; restore the image store from a copy, or use another run id"
    )

"""What `legion evaluate` and `legion calibrate` look at: a data set by its format, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from contracts.errors import InvalidInput

if TYPE_CHECKING:
    from defender.datasets import Samples
    from defender.evaluation.pictures import Source

TABLETOP = "tabletop"
FORMATS = (TABLETOP, "synthscars", "richhf", "loki", "folders", "plain")
ANNOTATED = frozenset({TABLETOP, "synthscars"})
"""Formats that say where all artifacts are, so that a picture without any is known to be free of them. LOKI
explains some pictures by region and others as a whole, and RichHF-18K's raters marked what struck them: there
no annotation means not known.
"""
REPORTED = {f: f for f in ("synthscars", "loki", "richhf")} | {"folders": "universalfakedetect"}
"""Under which name figures were published on the data of a format."""
TABLETOP_PICTURES = 1_000
CALIBRATION_PICTURES = 2_000


@dataclass(frozen=True)
class Request:
    """Which pictures, as a person asked for them."""

    format: str
    dataset: Path | None
    split: str = "test"
    limit: int | None = None
    is_real: bool | None = None
    """What a plain folder's pictures are."""


def open_source(request: Request, painted: bool = False) -> tuple[Source, Sequence[int]]:
    """The data set, and the indices of the pictures to look at.

    `painted` asks the tabletop world for the generator's paintings beside renders, for detection. Raises
    InvalidInput where the data set is not as expected.
    """
    from defender.catalog import open_samples
    from defender.evaluation.pictures import Source, spread

    if request.limit is not None and request.limit < 1:
        raise InvalidInput(f"--limit is {request.limit}: choose a number from 1")
    if request.format == TABLETOP:
        return _tabletop(request, painted)
    if request.dataset is None:
        raise InvalidInput(f"--format {request.format} needs the folder of the data set")
    root = request.dataset.expanduser()
    samples = open_samples(request.format, root, request.split, request.is_real)
    source = Source(
        str(request.dataset),
        samples,
        request.format in ANNOTATED,
        _reported(request, samples),
        tuple(getattr(samples, "skipped", ())),
    )
    return source, spread(len(samples), request.limit)


def _tabletop(request: Request, painted: bool) -> tuple[Source, Sequence[int]]:
    from defender.evaluation.pictures import Source
    from tabletop.held_out import RealOrPainted, RenderedScenes

    if request.dataset is not None:
        raise InvalidInput(
            f"--format tabletop renders its pictures itself: leave {request.dataset} away, or name its format"
        )
    pictures = request.limit or TABLETOP_PICTURES
    scenes = -(-pictures // 4)
    samples = RealOrPainted(scenes, request.split) if painted else RenderedScenes(scenes, request.split)
    reported = TABLETOP if request.split == "test" else ""
    return Source(f"tabletop, {request.split}", samples, True, reported), range(pictures)


def _reported(request: Request, samples: Samples) -> str:
    """Under which name others' figures of this very data set are kept; "" for any other, or a part of it."""
    from defender.evaluation.reported import is_published

    name, pictures = REPORTED.get(request.format, ""), len(samples)
    if not name or (request.limit is not None and request.limit < pictures):
        return ""
    same = is_published(name, request.split, pictures, getattr(samples, "groups", ()))
    return name if same else ""

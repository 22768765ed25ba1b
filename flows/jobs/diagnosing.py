"""Many picture files through a defender, in batches; what cannot be used is reported and the rest goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidInput, LegionError, ModelError
from contracts.protocols import Defender
from contracts.records import Diagnosis, Image
from defender.image_files import SUFFIXES, image_files, read_image
from flows.terminal.wording import origin_words

PIXELS_AT_ONCE = 64_000_000
"""A batch is closed early where its pictures hold more: large ones would fill the memory together."""


@dataclass(frozen=True, eq=False)
class Examined:
    """A picture file and what the defender saw in it."""

    path: Path
    image: Image
    diagnosis: Diagnosis


@dataclass(frozen=True)
class Failed:
    """A file that gave no diagnosis, and the line that says why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Row:
    """A picture's line in a table."""

    name: str
    origin: str
    findings: tuple[str, ...]
    """`phrase (82%)`, in the order of the answer."""


def row(result: Examined) -> Row:
    """What the table says of a picture."""
    found = tuple(f"{f.phrase} ({f.confidence:.0%})" for f in result.diagnosis.findings)
    return Row(result.path.name, origin_words(result.diagnosis), found)


def picture_paths(sources: Sequence[Path]) -> list[Path]:
    """The files named and the pictures of the folders named (not of folders below them), each once, in order.

    Raises InvalidInput for a folder without pictures. A file that does not exist stays in: reading it fails.
    """
    paths: dict[Path, None] = {}
    for source in sources:
        if not source.is_dir():
            paths[source] = None
            continue
        found = image_files(source)
        if not found:
            raise InvalidInput(f"{source} holds no pictures ({', '.join(SUFFIXES)}): name another folder")
        paths.update(dict.fromkeys(found))
    return list(paths)


def examine(
    defender: Defender, paths: Iterable[Path], batch_size: int, fail: Callable[[Failed], None]
) -> Iterator[Examined]:
    """What the defender sees in each file, in their order; `fail` is told of those that give no diagnosis."""
    for batch in _read(paths, batch_size, fail):
        yield from _diagnose(defender, batch, fail)


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """A name for the results of each file: its own without the ending, with -2, -3, ... where it is taken."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        stem, number = path.stem, 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{path.stem}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _read(
    paths: Iterable[Path], batch_size: int, fail: Callable[[Failed], None]
) -> Iterator[list[tuple[Path, Image]]]:
    """The pictures that can be read, in batches of `batch_size`, fewer where they are large."""
    batch: list[tuple[Path, Image]] = []
    held = 0
    for path in paths:
        try:
            image = read_image(path)
        except LegionError as error:
            fail(Failed(path, str(error)))
            continue
        pixels = image.shape[0] * image.shape[1]
        if batch and (len(batch) == batch_size or held + pixels > PIXELS_AT_ONCE):
            yield batch
            batch, held = [], 0
        batch.append((path, image))
        held += pixels
    if batch:
        yield batch


def _diagnose(
    defender: Defender, batch: Sequence[tuple[Path, Image]], fail: Callable[[Failed], None]
) -> Iterator[Examined]:
    """A batch that fails in the model is tried again picture by picture, so that one costs no others."""
    try:
        diagnoses = defender.diagnose([image for _, image in batch])
    except ModelError as error:
        if len(batch) == 1:
            fail(Failed(batch[0][0], f"image {batch[0][0]}: {error}"))
            return
        for one in batch:
            yield from _diagnose(defender, [one], fail)
        return
    for (path, image), diagnosis in zip(batch, diagnoses, strict=True):
        yield Examined(path, image, diagnosis)

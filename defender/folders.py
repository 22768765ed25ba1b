"""Data sets that are only folders of pictures, and the check of any data set for pictures that are broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contracts.errors import InvalidInput
from defender.datasets import Sample, Samples
from defender.image_files import image_files, read_image

REAL, FAKE = "0_real", "1_fake"
"""Folder names of UniversalFakeDetect (arXiv 2302.10174) and of CNNDetection before it."""


class PlainFolder:
    """The pictures of one folder, by name. What is true of them is known only as far as `is_real` says."""

    def __init__(self, folder: Path, is_real: bool | None = None) -> None:
        """Raises InvalidInput if the folder is missing or holds no picture."""
        self.paths, self.is_real = tuple(image_files(folder)), is_real
        if not self.paths:
            raise InvalidInput(f"{folder} holds no pictures")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Sample:
        """Raises InvalidInput if the picture cannot be read."""
        return Sample(read_image(self.paths[index]), (), self.is_real)

    def name(self, index: int) -> str:
        """The file's name."""
        return self.paths[index].name


@dataclass(frozen=True)
class _Picture:
    path: Path
    group: str
    is_real: bool


class GeneratorFolders:
    """Real and generated pictures by generator: ROOT/GENERATOR[/CLASS]/{0_real,1_fake}/*."""

    def __init__(self, root: Path) -> None:
        """Raises InvalidInput if no such folders are below `root`."""
        if not root.is_dir():
            raise InvalidInput(f"{root} is not a folder")
        self.root = root
        self.pictures = tuple(
            _Picture(path, folder.relative_to(root).parts[0], folder.name == REAL)
            for folder in sorted(root.rglob("*"))
            if folder.name in (REAL, FAKE) and folder.is_dir() and folder.parent != root
            for path in image_files(folder)
        )
        if not self.pictures:
            raise InvalidInput(f"{root} holds no GENERATOR/{REAL} and GENERATOR/{FAKE} folders with pictures")

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        """Raises InvalidInput if the picture cannot be read."""
        picture = self.pictures[index]
        return Sample(read_image(picture.path), (), picture.is_real)

    def name(self, index: int) -> str:
        """The path below the root."""
        return self.pictures[index].path.relative_to(self.root).as_posix()

    @property
    def groups(self) -> tuple[str, ...]:
        """The generator of each picture, in order; its real ones count with it."""
        return tuple(picture.group for picture in self.pictures)


@dataclass(frozen=True)
class Subset:
    """Some samples of a data set, in a fixed order."""

    samples: Samples
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[self.indices[index]]


@dataclass(frozen=True)
class Inspection:
    """Which samples of a data set can be used."""

    usable: tuple[int, ...]
    broken: tuple[tuple[int, str], ...]
    """Index and reason, one line each."""

    @property
    def report(self) -> str:
        """How many of how many are broken, and each of them with its reason; one line each."""
        total = len(self.usable) + len(self.broken)
        lines = [f"{len(self.broken)} of {total} samples cannot be used"]
        return "\n".join([*lines, *(f"  {index}: {reason}" for index, reason in self.broken)])


def inspect(samples: Samples, progress: Callable[[int], None] | None = None) -> Inspection:
    """Read every sample once. `progress` is told how many are done.

    Use it before a training: `Subset(samples, inspect(samples).usable)` has every sample that is whole, none
    in place of another, and the same one at an index every time.
    """
    usable, broken = [], []
    for index in range(len(samples)):
        try:
            samples[index]
            usable.append(index)
        except InvalidInput as error:
            broken.append((index, " ".join(str(error).split())))
        if progress is not None:
            progress(index + 1)
    return Inspection(tuple(usable), tuple(broken))

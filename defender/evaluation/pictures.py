"""What is evaluated: the pictures of a data set, with what is known of them, read one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from contracts.errors import InvalidInput
from contracts.protocols import Defender
from contracts.records import Diagnosis
from defender.datasets import Sample, Samples
from defender.evaluation.figures import Row

AT_ONCE = 16
"""Pictures read and looked at together."""


@dataclass(frozen=True)
class Source:
    """A data set, and what its annotations mean."""

    title: str
    samples: Samples
    annotated: bool
    """Whether artifacts are annotated, so that a picture without any is known to be free of them."""
    reported: str = ""
    """Name under which published figures of this very data set are kept (reported.toml)."""
    notes: tuple[str, ...] = ()
    """What opening it had to say: rows left out, and why."""

    def name(self, index: int) -> str:
        """What a sample is called in a report."""
        named: Callable[[int], str] | None = getattr(self.samples, "name", None)
        return named(index) if named else str(index)

    def group(self, index: int) -> str:
        """Which generator or kind of picture it is counted with."""
        return self._groups[index] if self._groups else ""

    @cached_property
    def _groups(self) -> Sequence[str]:
        return getattr(self.samples, "groups", ())


@dataclass(frozen=True, eq=False)
class Picture:
    """One sample under evaluation."""

    index: int
    name: str
    group: str
    sample: Sample
    clean: bool
    """Known to be free of artifacts."""

    @property
    def head(self) -> Row:
        """What every row begins with."""
        return {"index": self.index, "name": self.name, "group": self.group}


@dataclass(frozen=True)
class Unreadable:
    """A sample that cannot be used, and why, in one line."""

    index: int
    name: str
    reason: str


def read(source: Source, index: int) -> Picture | Unreadable:
    """A sample of the data set; a broken one is said to be broken, and nothing takes its place."""
    name = source.name(index)
    try:
        sample = source.samples[index]
    except InvalidInput as error:
        return Unreadable(index, name, " ".join(str(error).split()))
    clean = not sample.findings and (source.annotated or bool(sample.is_real))
    return Picture(index, name, source.group(index), sample, clean)


def batches(source: Source, indices: Sequence[int]) -> Iterator[list[Picture | Unreadable]]:
    """The samples at `indices`, read AT_ONCE at a time."""
    for start in range(0, len(indices), AT_ONCE):
        yield [read(source, index) for index in indices[start : start + AT_ONCE]]


def diagnosed(
    defender: Defender, pictures: Sequence[Picture], measure: Callable[[Picture, Diagnosis], Row]
) -> Iterator[Row]:
    """A row per picture, from its diagnosis."""
    diagnoses = defender.diagnose([picture.sample.image for picture in pictures])
    for picture, diagnosis in zip(pictures, diagnoses, strict=True):
        yield {**picture.head, **measure(picture, diagnosis)}


def spread(total: int, limit: int | None) -> list[int]:
    """At most `limit` of `total` indices, evenly spread, always the same ones."""
    if limit is None or limit >= total:
        return list(range(total))
    return [i * total // limit for i in range(limit)]

"""A run beside the same run done anew: which step gave another picture, mask, word or number.

Both are compared as the record says it that goes with exported pictures: every value of it, content by its
digest. Left out is what no repetition can give again: how long it took, and what a language model was paid.

Content, words and whole numbers have to be the same. A measured number may differ by what a batch leaves
open: a network adds up in another order among other pictures, and a run is done anew by itself, even one
that was made together with others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from contracts.records import Run
from flows.files.provenance import chain

BATCH_TOLERANCE = 1e-4
"""Relative difference that is put down to the batch; 16 runs made together differed by up to 6e-6 alone."""
SMALL = 0.01
"""Of a number below, such as a change of score, what counts is how far it is off and not its share."""
LEFT_OUT = {"round", "seconds", "usage"}
ORDER = (
    "prompt", "seed", "image", "diagnosis", "scores", "regions", "left_out", "result", "outside",
    "review", "verdict", "revision",
)  # fmt: skip
"""A round's parts as they come about, so that the first difference is the cause of those after it."""
NAMES = {"image": "picture", "painted": "picture", "diagnosis": "", "synthetic_probability": "probability"}
ONE_OF = {"findings": "finding", "regions": "region", "candidates": "candidate", "left_out": "left out",
          "scores": "score", "answers": "answer"}  # fmt: skip


class Compared(NamedTuple):
    """One value of both; None where one of them has none."""

    step: str
    """As `round 2 region 1 candidate 2 seam`."""
    before: str | float | None
    """A number if it was measured; digests, words and whole numbers as text."""
    again: str | float | None

    @property
    def identical(self) -> bool:
        return self.before == self.again

    @property
    def difference(self) -> float:
        """Between two measured numbers, as a share of the larger one, or of SMALL; 0 for anything else."""
        if self.identical or not (isinstance(self.before, float) and isinstance(self.again, float)):
            return 0.0
        return abs(self.before - self.again) / max(abs(self.before), abs(self.again), SMALL)

    @property
    def same(self) -> bool:
        return self.identical or 0 < self.difference <= BATCH_TOLERANCE


def compare(before: Run, again: Run) -> list[Compared]:
    """Every prompt, picture, mask, finding, score and verdict of the rounds, of their regions and of those's
    candidates, in the order in which they were made. Both runs need their masks."""
    rows = []
    both = zip_longest(chain(before, None)["rounds"], chain(again, None)["rounds"])
    for index, (old, new) in enumerate(both, start=1):
        then, now = (dict(_values(_in_order(item), f"round {index}")) for item in (old, new))
        rows += [Compared(name, then.get(name), now.get(name)) for name in _merged(list(then), list(now))]
    return rows


def first_difference(rows: Sequence[Compared]) -> str:
    """In one line, with what it was then and now."""
    row = next(row for row in rows if not row.same)
    then, now = ("nothing" if value is None else _short(str(value)) for value in (row.before, row.again))
    number = sum(not row.same for row in rows)
    return f"first in {row.step}: {then} then, {now} now; {number} of {len(rows)} values differ"


def verdict(rows: Sequence[Compared]) -> str:
    """In one line, of rows that are all the same."""
    apart = [row.difference for row in rows if not row.identical]
    if not apart:
        return f"identical: {len(rows)} of {len(rows)} values"
    return (
        f"the same: {len(rows) - len(apart)} of {len(rows)} values are identical, the others are numbers "
        f"that differ by at most {max(apart):.0e} of their size, as in batches of another size"
    )


def headlines(rows: Sequence[Compared]) -> list[Compared]:
    """Of a long list what a person reads: what differs, and each round's and region's outcome."""
    ends = ("prompt", "picture", "result", "value", "mask", "seam", "accepted")
    return [row for row in rows if not row.same or row.step.endswith(ends)]


def _in_order(item: Mapping[str, Any] | None) -> Mapping[str, Any]:
    return {} if item is None else {name: item[name] for name in ORDER}


def _values(value: Any, name: str) -> Iterator[tuple[str, str | float]]:
    """Name and value of everything in a record that is itself neither list nor mapping of such."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            if key not in LEFT_OUT:
                yield from _values(part, f"{name} {NAMES.get(key, ONE_OF.get(key, key))}".rstrip())
    elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
        for number, part in enumerate(value, start=1):
            yield from _values(part, f"{name} {part.get('name', number)}")
    elif value is not None and value != []:
        yield name, value if isinstance(value, str | float) else json.dumps(value, ensure_ascii=False)


def _merged(then: list[str], now: list[str]) -> list[str]:
    """All names, those that only one of them has after the one they follow there."""
    names = list(then)
    for at, name in enumerate(now):
        if name not in then:
            names.insert(names.index(now[at - 1]) + 1 if at else 0, name)
    return names


def _short(text: str, most: int = 60) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"

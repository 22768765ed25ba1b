"""A run beside the same run done anew: which step gave another picture or another word."""

from __future__ import annotations

from itertools import zip_longest
from typing import NamedTuple

from contracts.records import Round, Run


class Compared(NamedTuple):
    """One step of both; None where one of them did not take it."""

    step: str
    before: str | None
    again: str | None

    @property
    def same(self) -> bool:
        return self.before == self.again


def compare(before: Run, again: Run) -> list[Compared]:
    """Every picture by its digest, every prompt, verdict and score, in the order in which they were made."""
    rows = []
    for old, new in zip_longest(before.rounds, again.rounds):
        then, now = _steps(old), _steps(new)
        names = list(dict.fromkeys([*then, *now]))
        index = (old or new).index
        rows += [Compared(f"round {index} {name}", then.get(name), now.get(name)) for name in names]
    return rows


def _steps(item: Round | None) -> dict[str, str | None]:
    """What a round came to, as text; masks are left out, which a listing does not hold."""
    if item is None:
        return {}
    steps: dict[str, str | None] = {"prompt": item.prompt, "picture": item.image}
    if item.diagnosis is not None:
        steps["findings"] = "; ".join(f"{f.phrase} {f.confidence!r}" for f in item.diagnosis.findings)
    steps |= {f"score {score.name}": repr(score.value) for score in item.scores or ()}
    for number, repair in enumerate(item.repairs or (), start=1):
        for count, candidate in enumerate(repair.candidates, start=1):
            steps[f"region {number} candidate {count}"] = candidate.painted
        steps[f"region {number}"] = repair.picture
    if item.repairs is not None:
        steps["result"] = item.result
    if item.verdict is not None:
        steps["verdict"] = f"{'accepted' if item.verdict.accepted else 'rejected'}: {item.verdict.reason}"
    return steps

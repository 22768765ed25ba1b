"""Which scores may be set against each other: only those of one scorer, in one version, set up one way."""

from __future__ import annotations

import math
from collections.abc import Sequence

from contracts.errors import ModelError
from contracts.records import Score


def check_comparable(scores: Sequence[Score]) -> None:
    """Raise ModelError if the scores differ in name or version: no number of theirs means the same."""
    for score in scores[1:]:
        first = scores[0]
        if score.name != first.name:
            raise ModelError(
                f"scores of {first.name!r} and {score.name!r} cannot be compared: score all pictures with "
                "one scorer"
            )
        if score.version != first.version:
            raise ModelError(
                f"scores of {first.name!r} by version [{first.version}] and by version [{score.version}] "
                "cannot be compared: score all pictures of a run with the same model and settings"
            )


def difference(new: Score, old: Score) -> float:
    """How much higher the new score is. Raises ModelError if the two are not comparable."""
    check_comparable((old, new))
    return new.value - old.value


def mean(scores: Sequence[Score]) -> float:
    """Mean value of comparable scores. Raises ModelError if they are not comparable or there are none."""
    if not scores:
        raise ModelError("there is no score to take the mean of: score at least one picture")
    check_comparable(scores)
    return math.fsum(score.value for score in scores) / len(scores)

"""Jobs as JSON-ready values and back: what a flow's parameters and the memory bank's record of a job hold."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self

MOST_TOLD = 400_000
"""Characters of a flow run's parameters: Prefect's server refuses more than 524,288 bytes."""
TOLD_OF_MANY = 100
"""How much of a list it is told that is too long for it."""


def told(values: Mapping[str, Any], listed: str) -> dict[str, Any]:
    """Parameters as Prefect's server may keep them: of a list that is too long for it the beginning, and
    under `of` the list's length."""
    if len(json.dumps(values)) <= MOST_TOLD:
        return dict(values)
    return {**values, listed: list(values[listed])[:TOLD_OF_MANY], "of": len(values[listed])}


def how_many(values: Mapping[str, Any], listed: str) -> int:
    """The length of the list, from parameters that were `told`."""
    return int(values.get("of", len(values[listed])))


class Parameters:
    """Base of a job: a frozen dataclass of plain values and of `cases`, a tuple of dataclasses of such."""

    case_class: ClassVar[type[Any]]

    def as_parameters(self) -> dict[str, Any]:
        """The job as JSON-ready values."""
        values: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # subclasses are dataclasses
        return {**values, "cases": list(values["cases"])}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `as_parameters`. Raises KeyError and TypeError for other values."""
        return cls(**{**values, "cases": tuple(cls.case_class(**case) for case in values["cases"])})

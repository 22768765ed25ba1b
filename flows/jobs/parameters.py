"""Jobs as JSON-ready values and back: what a flow's parameters and the memory bank's record of a job hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Self


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

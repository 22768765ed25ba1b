"""Why a request is refused: one line for a person, a code for a program, and the HTTP status."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.errors import LegionError


class Refusal(LegionError):
    """A request that is not carried out."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.headers = status, code, dict(headers or {})

    def body(self) -> dict[str, str]:
        """What the program gets, as JSON."""
        return {"code": self.code, "error": str(self)}


def not_found(what: str) -> Refusal:
    """404."""
    return Refusal(404, "not_found", f"there is no {what}")


def queue_full(limit: int, seconds: int) -> Refusal:
    """429, with when to try again."""
    return Refusal(
        429,
        "queue_full",
        f"{limit} runs are waiting, which is as many as this server takes: try again in {seconds} seconds",
        {"Retry-After": str(seconds)},
    )


def conflict(code: str, message: str) -> Refusal:
    """409."""
    return Refusal(409, code, message)

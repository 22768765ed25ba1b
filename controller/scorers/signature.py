"""The version that every score is signed with: all that its number hangs on, in one line of text."""

from __future__ import annotations

from collections.abc import Mapping


def signature(kind: str, release: str, weights: str, options: Mapping[str, object]) -> str:
    """For example "hpsv2 v2.1; weights=1a2b3c4d5e6f; size=224; fit=longest; antialias=true; dtype=float32".

    Two scores are comparable if and only if theirs are equal (contracts.scores), so every option that changes
    a number has to be in it.
    """
    head = f"{kind} {release}".strip()
    parts = {"weights": weights, **options}
    return "; ".join([head, *(f"{key}={_plain(value)}" for key, value in parts.items())])


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

"""The base of scripted tools: chance that depends on names alone, and a count of what was asked for."""

from __future__ import annotations

import hashlib


def dice(*parts: object) -> int:
    """A number 0..255 that depends on the parts alone."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).digest()[0]


class Counting:
    """A tool that counts the samples it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[object] = []
        self.batches: list[int] = []

    def count(self, keys: list) -> None:
        self.seen += keys
        self.batches.append(len(keys))

    def describe(self):
        return {"name": self.name}

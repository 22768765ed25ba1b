"""Invented findings that show a language model what is asked of it, as data."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass

from contracts.records import Category
from prompts.resources import read

_FOLDER, _SUFFIX = "examples", ".toml"


@dataclass(frozen=True)
class ExampleFinding:
    """A finding without its mask."""

    category: Category
    phrase: str
    explanation: str


@dataclass(frozen=True)
class Example:
    """A prompt, and what was found in its picture."""

    prompt: str
    findings: tuple[ExampleFinding, ...]


def load_examples(name: str) -> tuple[Example, ...]:
    """The examples `name`, in order. Raises InvalidInput if there are none of that name."""
    data = tomllib.loads(read(_FOLDER, name, _SUFFIX, "set of examples"))
    return tuple(
        Example(entry["prompt"], tuple(ExampleFinding(**finding) for finding in entry["findings"]))
        for entry in data["example"]
    )


def examples_digest(name: str) -> str:
    """Short sha256 of the file: the version under which a record keeps it. Raises InvalidInput."""
    return hashlib.sha256(read(_FOLDER, name, _SUFFIX, "set of examples").encode()).hexdigest()[:12]

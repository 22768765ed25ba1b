"""Texts for models with strict variables: `{{name}}` is filled exactly once, and nothing is filled in
silence.

A value is inserted as it is: what looks like a variable inside a value stays text, so the words of a person
or of another model cannot pull in further values.
"""

from __future__ import annotations

import hashlib
import re

from contracts.errors import InvalidInput
from prompts.resources import names_under, read

_FOLDER, _SUFFIX = "texts", ".md"
_VARIABLE = re.compile(r"\{\{\s*([a-z][a-z0-9_]*)\s*\}\}")


def names() -> list[str]:
    """Names of all texts."""
    return names_under(_FOLDER, _SUFFIX)


def render(name: str, /, **variables: object) -> str:
    """The text `name` with its variables filled in.

    Raises InvalidInput for an unknown text, and for a variable that is missing or that the text does not
    have.
    """
    return fill(source(name), variables, name)


def source(name: str) -> str:
    """The text as written, variables unfilled, without the line end that closes the file. Raises
    InvalidInput."""
    return read(_FOLDER, name, _SUFFIX, "text").removesuffix("\n")


def digest(name: str) -> str:
    """Short sha256 of the text as written: the version under which a record keeps it. Raises InvalidInput."""
    return hashlib.sha256(source(name).encode()).hexdigest()[:12]


def fill(text: str, variables: dict[str, object], name: str) -> str:
    """`text` with every `{{variable}}` replaced; `name` is for the error only. Raises InvalidInput."""
    wanted = set(_VARIABLE.findall(text))
    if missing := sorted(wanted - set(variables)):
        raise InvalidInput(f"the text {name!r} needs {_listed(missing)}: pass a value for each")
    if unknown := sorted(set(variables) - wanted):
        has = f"it has {_listed(sorted(wanted))}" if wanted else "it has no variables"
        raise InvalidInput(f"the text {name!r} does not use {_listed(unknown)}: {has}")
    return _VARIABLE.sub(lambda match: str(variables[match[1]]), text)


def _listed(variables: list[str]) -> str:
    return ", ".join(f"'{variable}'" for variable in variables)

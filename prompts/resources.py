"""The data files of this package, by name, wherever the package is installed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable

from contracts.errors import InvalidInput


def names_under(folder: str, suffix: str) -> list[str]:
    """Names of the files below `folder`, sorted, as "sub/name" without the suffix."""
    return sorted(_walk(files("prompts").joinpath(folder), suffix, prefix=""))


def read(folder: str, name: str, suffix: str, what: str) -> str:
    """The text of one data file. Raises InvalidInput, with the nearest name, if there is no such file."""
    known = names_under(folder, suffix)
    if name not in known:
        raise InvalidInput(f"no {what} is called {name!r}: {nearest(name, known)}")
    return files("prompts").joinpath(folder, *f"{name}{suffix}".split("/")).read_text(encoding="utf-8")


def nearest(name: str, known: Iterable[str]) -> str:
    """What to use instead of a name that does not exist."""
    choices = list(known)
    close = difflib.get_close_matches(name, choices, n=1)
    return f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(choices) or 'none'}"


def _walk(folder: Traversable, suffix: str, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, suffix, f"{prefix}{entry.name}/")
        elif entry.name.endswith(suffix):
            yield prefix + entry.name.removesuffix(suffix)

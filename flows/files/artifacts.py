"""Which files a run was written to, kept in the memory bank: what `--json` names, and where it lies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from contracts.errors import LegionError
from memory_bank import SqlMemoryBank
from memory_bank.artifacts import artifact

KINDS = {
    "image": "picture",
    "marked": "marked picture",
    "mask": "mask",
    "output": "result",
    "support": "support",
    "sources": "source map",
    "sources_map": "source map",
    "plan": "plan",
    "weights": "weights",
    "painted": "painting",
    "record": "record",
    "report": "report",
}
"""Keys of the JSON that name a file, and what such a file is."""


def keep_named(bank: SqlMemoryBank, runs: Iterable[Mapping[str, Any]]) -> str:
    """Keep the files that the JSON of each run names. What kept that from being done, in one line: the files
    are there in any case."""
    return keep(bank, [(run["run_id"], kind, path) for run in runs for path, kind in named(run).items()])


def keep(bank: SqlMemoryBank, files: Iterable[tuple[str, str, Path]]) -> str:
    """As `keep_named`, of files by run, kind and path."""
    try:
        bank.keep_artifacts([artifact(*file) for file in files])
    except LegionError as error:
        return f"where these files lie is not kept: {error}"
    return ""


def named(values: Mapping[str, Any]) -> dict[Path, str]:
    """The files that a run's JSON names, each with its kind."""
    return {Path(value): KINDS[key] for key, value in _entries(values) if key in KINDS}


def _entries(values: Any) -> Iterator[tuple[str, str]]:
    """Every text in it that has a name."""
    parts = values.items() if isinstance(values, Mapping) else [("", part) for part in values]
    for key, value in parts:
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, Mapping | list):
            yield from _entries(value)

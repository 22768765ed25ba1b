"""What was published about the same data (reported.toml), to stand beside what is measured here."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Reported:
    """One row of somebody's paper, or of this project's bars; percent."""

    who: str
    source: str
    values: Mapping[tuple[str, str], float]
    """By group ("" where figures are not divided) and figure."""


def is_published(data: str, split: str, pictures: int, groups: Collection[str] = ()) -> bool:
    """Whether so many pictures of a split, by these generators, are the whole data set that figures were
    published on, as far as reported.toml can tell.
    """
    facts = _file()["published"][data]
    there = {facts.get("spellings", {}).get(group.casefold(), group.casefold()) for group in groups}
    wanted = {name for names in families().values() for name in names} if facts["all_families"] else set()
    return (
        facts["split"] in ("", split)
        and facts["least"] <= pictures <= facts["most"]
        and wanted - set(facts.get("spellings", {})) <= there
    )


def reported_for(data: str, task: str) -> list[Reported]:
    """Everything known about a task on that very data set; nothing for other data."""
    return [
        Reported(row["who"], row["source"], _values(row))
        for row in _file()["reported"]
        if (row["data"], row["task"]) == (data, task)
    ]


def without(reported: Sequence[Reported], beginning: str) -> list[Reported]:
    """The same rows without the figures whose names begin like that: ours are not of the same kind."""
    kept = [
        replace(row, values={at: v for at, v in row.values.items() if not at[1].startswith(beginning)})
        for row in reported
    ]
    return [row for row in kept if row.values]


def families() -> Mapping[str, tuple[str, ...]]:
    """Generators that the paper's detection table puts together, by their folder's name."""
    return {family: tuple(members) for family, members in _file()["families"].items()}


def _values(row: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    groups: Mapping[str, Mapping[str, float]] = row.get("groups") or {"": row["values"]}
    return {(group, name): value for group, values in groups.items() for name, value in values.items()}


@lru_cache(maxsize=1)
def _file() -> dict[str, Any]:
    text = resources.files("defender.evaluation").joinpath("reported.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)

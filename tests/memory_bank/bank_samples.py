"""What the tests begin their runs with, and their way around the memory bank to its database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

BEGIN = {
    "kind": "regeneration",
    "prompt": "a red cone",
    "seed": 7,
    "settings": {"rounds": 3, "generator": {"steps": 12, "size": (64, 64)}},
}


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
            for (name,) in self.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                self.execute(f"DROP TABLE {name}")
        else:
            self.execute("DROP SCHEMA public CASCADE")
            self.execute("CREATE SCHEMA public")

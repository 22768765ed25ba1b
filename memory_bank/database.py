"""Connections and transactions: SQLite in WAL mode or another database, patience, one-line errors.

On SQLite every writing transaction begins with BEGIN IMMEDIATE, so that two writers queue at the start; a
transaction that turns from reading to writing half way would be refused at once instead of waiting.
`synchronous=FULL` makes a commit survive a power cut and not only a killed process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Engine, create_engine, event, inspect, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from contracts.errors import MemoryBankError
from memory_bank.places import DATABASE_VARIABLE
from memory_bank.tables import SCHEMA_VERSION, Base, SchemaRow

T = TypeVar("T")

LOCK_SECONDS = 30.0
"""How long a transaction waits for another process's before it gives up."""


class Database:
    """One engine, its tables made or checked. Safe to share between threads."""

    def __init__(self, url: URL) -> None:
        """Open or create. Raises MemoryBankError if that fails or newer code wrote the database."""
        self.url = url
        self.name = url.database if _is_sqlite(url) else url.render_as_string(hide_password=True)
        with self._reporting():
            self._engine = _engine(url)
            self._writer = self._engine.execution_options(legion_write=True)
            try:
                if _is_sqlite(url):
                    self._patient(self._use_wal)
                if not self.read(_schema_ready):
                    self.write(_create_schema)
            except BaseException:
                self._engine.dispose()
                raise

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on one consistent snapshot."""
        return self._transaction(self._engine, work)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction, durable on return. `work` may be called again after a lock."""
        return self._transaction(self._writer, work)

    def close(self) -> None:
        """Close the pooled connections; the next use opens new ones."""
        self._engine.dispose()

    def _transaction(self, engine: Engine, work: Callable[[Session], T]) -> T:
        def once() -> T:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                return work(session)

        with self._reporting():
            return self._patient(once)

    def _patient(self, once: Callable[[], T]) -> T:
        """SQLite's own waiting does not cover every lock (change to WAL, recovery), so ask again."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return once()
            except OperationalError as error:
                if "locked" not in str(error.orig) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _use_wal(self) -> None:
        with self._engine.connect() as connection:
            raw = connection.connection.cursor()  # beneath SQLAlchemy, outside any transaction
            try:
                if raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                    raw.execute("PRAGMA journal_mode=WAL")
            finally:
                raw.close()

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError:
            raise  # the caller knows which rule was broken
        except SQLAlchemyError as error:
            raise MemoryBankError(self._explain(error)) from error
        except ImportError as error:
            raise MemoryBankError(
                f"the database {self.name} needs a driver that is not installed: {error}"
            ) from error
        except OSError as error:
            raise MemoryBankError(
                f"the database folder cannot be made: {error}; set LEGION_HOME to a writable folder"
            ) from error

    def _explain(self, error: SQLAlchemyError) -> str:
        cause = " ".join(str(getattr(error, "orig", None) or error).split())
        elsewhere = f"or choose another database with {DATABASE_VARIABLE}"
        if "not a database" in cause or "malformed" in cause:
            return f"{self.name} is no usable SQLite database ({cause}); restore it {elsewhere}"
        if "locked" in cause:
            return f"the database {self.name} stayed locked too long; close what holds it {elsewhere}"
        if "readonly" in cause or "unable to open" in cause:
            return f"the database {self.name} cannot be used ({cause}); make its folder writable {elsewhere}"
        return f"the database {self.name} failed ({cause[:200]}); check it {elsewhere}"


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _engine(url: URL) -> Engine:
    if not _is_sqlite(url):
        return create_engine(url, pool_pre_ping=True)
    Path(str(url.database)).expanduser().absolute().parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_SECONDS})
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not guessed by the driver
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("legion_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _schema_ready(session: Session) -> bool:
    """Whether the tables are there and up to date.

    Raises MemoryBankError if newer code or another program made them.
    """
    names = set(inspect(session.connection()).get_table_names())
    version = None
    if SchemaRow.__tablename__ in names:
        version = session.scalar(select(SchemaRow.version))
    elif taken := sorted(names & set(Base.metadata.tables)):
        raise MemoryBankError(
            f"the database holds tables of another program ({', '.join(taken)}); "
            f"choose another with {DATABASE_VARIABLE}"
        )
    if version is not None and version > SCHEMA_VERSION:
        raise MemoryBankError(
            f"the database was written by a newer version (schema {version}, known is {SCHEMA_VERSION}); "
            f"update this program or choose another database with {DATABASE_VARIABLE}"
        )
    return version == SCHEMA_VERSION


def _create_schema(session: Session) -> None:
    if _schema_ready(session):
        return  # another process was faster
    # An older schema is brought up to date the same way: until now, every change was a new table.
    Base.metadata.create_all(session.connection())
    session.merge(SchemaRow(id=1, version=SCHEMA_VERSION))

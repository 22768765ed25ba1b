"""Connections and transactions: SQLite in WAL mode or PostgreSQL, patience, one-line errors.

On SQLite every writing transaction begins with BEGIN IMMEDIATE, so that two writers queue at the start; a
transaction that turns from reading to writing half way would be refused at once instead of waiting.
`synchronous=FULL` makes a commit survive a power cut and not only a killed process.

On PostgreSQL, reading is done at REPEATABLE READ, so that a run is seen as it was at one moment, and writing
at READ COMMITTED behind a lock on the run's row. A server that goes away is waited for (patience.py).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session

from contracts.errors import MemoryBankError, StorageUnavailable
from memory_bank import patience
from memory_bank.patience import cause_of, database_is_away, patiently
from memory_bank.places import DATABASE_VARIABLE
from memory_bank.schema import HEAD, revision_of, upgrade

T = TypeVar("T")
Opening: TypeAlias = Literal["use", "upgrade", "look"]
"""To use: made if it is not there, and SQLite, which is one person's, brought up to date. To upgrade: that on
every database. To look: nothing is changed, and any schema will do."""

LOCK_SECONDS = 30.0
"""How long a transaction waits for another process's before it gives up."""
_WORTH_WAITING = ("40001", "40P01", "55P03")
"""PostgreSQL's codes for a conflict with another transaction, a deadlock, and a lock that did not come."""


class Database:
    """One engine, its tables made or checked. Safe to share between threads."""

    def __init__(self, url: URL, opening: Opening = "use") -> None:
        """Open, and create unless it is only to look. Raises MemoryBankError if that fails, if newer code
        wrote the database, or if a PostgreSQL database needs an upgrade."""
        self.url = url
        self._answered = False
        self.name = url.database if _is_sqlite(url) else url.render_as_string(hide_password=True)
        with self._reporting():
            self._engine = _engine(url, create=opening != "look")
            self._writer = self._engine.execution_options(legion_write=True)
            try:
                if opening != "look":
                    self._prepare(opening)
            except BaseException:
                self._engine.dispose()
                raise

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file of this machine."""
        return _is_sqlite(self.url)

    def _prepare(self, opening: Opening) -> None:
        if self.is_sqlite:
            self._patient(self._use_wal)
        found = self.read(revision_of)
        if found == HEAD:
            return
        if found is not None and not self.is_sqlite and opening == "use":
            raise MemoryBankError(
                f"the database {self.name} has schema {found} and needs {HEAD}: run legion db upgrade once, "
                "when nobody is working with it"
            )
        self.write(upgrade)

    def read(self, work: Callable[[Session], T]) -> T:
        """Run `work` on one consistent snapshot."""
        return self._transaction(self._engine, work)

    def write(self, work: Callable[[Session], T]) -> T:
        """Run `work` in one transaction, durable on return.

        `work` may be called again: after a lock, and after a lost connection, of which nobody can tell
        whether the commit was still done. Raises MemoryBankError; StorageUnavailable if it stays away.
        """
        return self._transaction(self._writer, work)

    def write_soon(self, work: Callable[[Session], T]) -> T:
        """As `write`, without waiting for a server that is away."""
        return self._transaction(self._writer, work, patience.FIRST_SECONDS)

    def close(self) -> None:
        """Close the pooled connections; the next use opens new ones."""
        self._engine.dispose()

    def _transaction(self, engine: Engine, work: Callable[[Session], T], most: float = float("inf")) -> T:
        def once() -> T:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                return work(session)

        with self._reporting():
            done = self._patient(once, most)
        self._answered = True
        return done

    def _patient(self, once: Callable[[], T], most: float = float("inf")) -> T:
        """SQLite's own waiting does not cover every lock (change to WAL, recovery), and a server may restart:
        so ask again."""

        def worth(error: Exception) -> float:
            if _is_lock(error):
                return LOCK_SECONDS
            if not database_is_away(error):
                return 0.0
            return min(most, patience.AWAY_SECONDS if self._answered else patience.FIRST_SECONDS)

        return patiently(once, worth)

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
        except (SQLAlchemyError, sqlite3.Error) as error:
            if database_is_away(error):
                raise StorageUnavailable(
                    f"the database {self.name} does not answer ({cause_of(error)[:200]}); start it, or "
                    f"choose another with {DATABASE_VARIABLE}, then resume"
                ) from error
            raise MemoryBankError(self._explain(error)) from error
        except ImportError as error:
            raise MemoryBankError(
                f"the database {self.name} needs a driver that is not installed: {error}"
            ) from error
        except OSError as error:
            raise MemoryBankError(
                f"the database folder cannot be made: {error}; set LEGION_HOME to a writable folder"
            ) from error

    def _explain(self, error: Exception) -> str:
        cause = cause_of(error)
        elsewhere = f"or choose another database with {DATABASE_VARIABLE}"
        if "not a database" in cause or "malformed" in cause:
            return f"{self.name} is no usable SQLite database ({cause}); restore it {elsewhere}"
        if "disk is full" in cause or "No space left" in cause:
            return f"there is no space left for the database {self.name}; free some, then resume"
        if _is_lock(error):
            return f"the database {self.name} stayed locked too long; close what holds it {elsewhere}"
        if "readonly" in cause or "unable to open" in cause:
            return f"the database {self.name} cannot be used ({cause}); make its folder writable {elsewhere}"
        return f"the database {self.name} failed ({cause[:200]}); check it {elsewhere}"


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _is_lock(error: Exception) -> bool:
    """Is another transaction in the way? `error` is SQLAlchemy's, or the SQLite driver's own."""
    cause = error.orig if isinstance(error, OperationalError) else error
    if isinstance(cause, sqlite3.OperationalError):
        return "locked" in str(cause)
    return getattr(cause, "sqlstate", None) in _WORTH_WAITING


def _engine(url: URL, create: bool) -> Engine:
    if not _is_sqlite(url):
        engine = create_engine(url, pool_pre_ping=True, isolation_level="REPEATABLE READ")
        event.listen(engine, "begin", _begin_server)
        return engine
    path = Path(str(url.database)).expanduser().absolute()
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
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


def _begin_server(connection: Connection) -> None:
    # A server's default is for disks that turn: it would read a table of some hundred thousand rows whole
    # sooner than look fifty runs up in its index.
    settings = {"random_page_cost": "1.1"}
    if connection.get_execution_options().get("legion_write", False):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        settings["lock_timeout"] = str(int(LOCK_SECONDS * 1000))
    # In one question, and for this transaction alone, which poolers allow.
    each = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items())
    connection.exec_driver_sql(f"SELECT {each}")

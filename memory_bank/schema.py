"""Which tables a database has, and how it gets those of this version.

The tables of a version are named by a number, the revision of the Alembic script that makes them. It is kept
in a table of our own name, so that a database may be shared with other programs that use Alembic.
"""

from __future__ import annotations

from sqlalchemy import inspect, text
from sqlalchemy.orm import Session

from contracts.errors import MemoryBankError
from memory_bank.places import DATABASE_VARIABLE
from memory_bank.rows import at_work
from memory_bank.tables import Base

VERSION_TABLE = "legion_schema_version"
REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""Every schema this program can bring up to date, oldest first. A test compares them with the scripts."""
HEAD = REVISIONS[-1]
UNRELEASED = "before 0001"
"""A database of the time before the first release; it holds the same tables, or some of them."""
UNRELEASED_TABLE = "legion_schema"
UNRELEASED_VERSION = 3
_UPGRADE_LOCK = 7_214_055_266_083
"""Number of PostgreSQL's advisory lock: one process upgrades, the others wait and find it done."""


def revision_of(session: Session) -> str | None:
    """The schema of the database; None if it holds no tables of ours.

    Raises MemoryBankError if newer code or another program made its tables.
    """
    names = set(inspect(session.connection()).get_table_names())
    if VERSION_TABLE in names:
        found = session.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))
        if found not in REVISIONS:
            raise _newer(str(found))
        return str(found)
    if UNRELEASED_TABLE in names:
        number = session.scalar(text(f"SELECT version FROM {UNRELEASED_TABLE}"))
        if number is not None and number > UNRELEASED_VERSION:
            raise _newer(str(number))
        return UNRELEASED
    if taken := sorted(names & set(Base.metadata.tables)):
        raise MemoryBankError(
            f"the database holds tables of another program ({', '.join(taken)}); "
            f"choose another with {DATABASE_VARIABLE}"
        )
    return None


def upgrade(session: Session) -> None:
    """Make the tables of HEAD in the session's transaction, whatever is there of ours.

    Raises MemoryBankError as `revision_of` does, and if a live process works on a run: it knows the old
    tables only.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
    found = revision_of(session)
    if found == HEAD:
        return  # another process was faster
    if found is not None and (working := at_work(session)):
        raise MemoryBankError(
            f"the database has schema {found} and needs {HEAD}, but {working}; wait until it ends"
        )
    # Alembic takes a tenth of a second to import, which only an upgrade has to pay.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": session.connection()})
    config.set_main_option("script_location", "memory_bank:migrations")
    command.upgrade(config, HEAD)


def _newer(found: str) -> MemoryBankError:
    return MemoryBankError(
        f"the database was written by a newer version (schema {found}, known is {HEAD}); "
        f"update this program or choose another database with {DATABASE_VARIABLE}"
    )

"""Where the database and the store live: argument, then environment, then the user's data directory.

A URL may hold a password. What is shown to a person goes through `without_password`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from contracts.errors import InvalidInput

HOME_VARIABLE = "LEGION_HOME"
DATABASE_VARIABLE = "LEGION_DATABASE_URL"
STORE_VARIABLE = "LEGION_STORE_URL"


def home() -> Path:
    """LEGION_HOME, or the user's data directory for this program. Not created here."""
    chosen = os.environ.get(HOME_VARIABLE)
    return (
        Path(chosen).expanduser() if chosen else Path(platformdirs.user_data_dir("legion", appauthor=False))
    )


def database_url(url: str | None) -> URL:
    """The database to use. Raises InvalidInput for text that is not a database URL, or one kept in memory."""
    text = url or os.environ.get(DATABASE_VARIABLE)
    if not text:
        return URL.create("sqlite", database=str((home() / "memory_bank.sqlite3").absolute()))
    try:
        parsed = make_url(text)
    except (ArgumentError, ValueError):
        # The text may hold a password, so it is not repeated.
        raise InvalidInput(
            f"the database URL cannot be read; write it as sqlite:///PATH or postgresql://USER@HOST/NAME, "
            f"also in {DATABASE_VARIABLE}"
        ) from None
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "sqlite":
        if parsed.database in (None, "", ":memory:") or "mode" in parsed.query:
            raise InvalidInput("the memory bank needs a database file: write the URL as sqlite:///PATH")
    return parsed


def store_root(images: str | None, database: URL) -> str:
    """Folder or fsspec URL of the store: as given, LEGION_STORE_URL, else `store` beside the SQLite file or
    in the home."""
    if chosen := images or os.environ.get(STORE_VARIABLE):
        return chosen
    if database.get_backend_name() == "sqlite" and database.database:
        return str(Path(database.database).absolute().parent / "store")
    return str(home().absolute() / "store")


def without_password(url: str) -> str:
    """`s3://key:secret@bucket/x` as `s3://***@bucket/x`."""
    return re.sub(r"(?<=://)[^/@]*@", "***@", url)

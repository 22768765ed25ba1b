"""Do Prefect's server, the database and the store answer? Each gets a few seconds and becomes a line."""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import fsspec

from memory_bank.database import Database
from memory_bank.places import DATABASE_VARIABLE, STORE_VARIABLE, database_url, store_root, without_password
from memory_bank.schema import HEAD, revision_of

PATIENCE = 5.0
"""Seconds for all of them, side by side."""


class Service(NamedTuple):
    """Something outside this process that runs may need."""

    service: str
    look: Callable[[], tuple[str, str]]
    """Where it is, and how it stands."""
    remedy: str
    """What to do if it does not answer."""


def examine() -> list[dict[str, str]]:
    """Each as plain values: service, place, state."""
    _prefect_url()  # imports Prefect, which is not to count
    answers: list[dict[str, str]] = [{} for _ in SERVICES]
    # Threads that nobody waits for at the end: a server that hangs holds up no one.
    threads = [
        threading.Thread(target=_ask, args=(service, answer), daemon=True)
        for service, answer in zip(SERVICES, answers, strict=True)
    ]
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [
        answer.copy() or {**_silent(service), "state": f"no answer within {PATIENCE:g} s: {service.remedy}"}
        for service, answer in zip(SERVICES, answers, strict=True)
    ]


def prefect_server() -> tuple[str, str]:
    """Prefect's API, if one is configured."""
    url = _prefect_url()
    if not url:
        return "none", "each command starts one for itself; `legion ui` keeps one, with pages"
    place = without_password(url)
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=PATIENCE / 2):
            return place, "answers"
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return place, "answers, and wants to know who asks: set PREFECT_API_AUTH_STRING"
        return place, f"answers with {error.code}: is it a Prefect server? Look at PREFECT_API_URL"


def database() -> tuple[str, str]:
    """The memory bank's database. Changes nothing in it."""
    url = database_url(None)
    opened = Database(url, "look") if not _to_be_made(url.get_backend_name(), url.database) else None
    if opened is None:
        path = Path(str(url.database))
        return str(path), _makable(path.parent)
    try:
        found = opened.read(revision_of)
    finally:
        opened.close()
    if found is None:
        return str(opened.name), "answers; the first run makes its tables"
    if found != HEAD:
        how = "the next run upgrades it" if opened.is_sqlite else "run legion db upgrade"
        return str(opened.name), f"answers, with the older schema {found}: {how}"
    return str(opened.name), "answers"


def store() -> tuple[str, str]:
    """Where pictures are kept."""
    root = store_root(None, database_url(None))
    files, path = fsspec.core.url_to_fs(root)
    shown = without_password(root)
    if "file" in files.protocol:
        return shown, "answers" if os.access(path, os.W_OK) else _makable(Path(path))
    try:
        files.ls(path, detail=False)
    except FileNotFoundError:
        return shown, "answers; nothing is there yet, and a bucket has to be made before the first run"
    return shown, "answers"


SERVICES = (
    Service("Prefect's server", prefect_server, "start it, or unset PREFECT_API_URL"),
    Service("database", database, f"start it, or choose another with {DATABASE_VARIABLE}"),
    Service("store", store, f"look at its address and its keys, or choose another with {STORE_VARIABLE}"),
)


def _prefect_url() -> str | None:
    """Where Prefect's API is said to be: in the environment, or in Prefect's own settings."""
    from flows.settings import prepare_prefect

    prepare_prefect()
    from prefect.settings import get_current_settings

    return get_current_settings().api.url


def _ask(service: Service, answer: dict[str, str]) -> None:
    try:
        place, state = service.look()
        answer.update(service=service.service, place=place, state=state)
    except Exception as error:  # whatever drivers raise
        said = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "" if service.remedy.split(",")[0] in said else f": {service.remedy}"
        answer.update(_silent(service), state=f"{without_password(said)}{remedy}")


def _silent(service: Service) -> dict[str, str]:
    return {"service": service.service, "place": ""}


def _to_be_made(backend: str, name: str | None) -> bool:
    return backend == "sqlite" and not Path(str(name)).exists()


def _makable(folder: Path) -> str:
    """Whether what is not there yet can be made."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if os.access(nearest, os.W_OK):
        return "is made by the first run"
    return f"cannot be made: {nearest} is not writable; set LEGION_HOME to a folder that is"

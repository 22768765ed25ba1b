"""The shared store as workers and runs see it: pictures, and the questions, claims and answers of calls.

A call is a folder under `calls/` with `call.json`, written by who asks; `claim.json`, rewritten every few
seconds by the worker that has it; and `answer.json`. Each file appears whole: a local one is renamed into
place, and object stores show what is written completely or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import fsspec
from fsspec.implementations.local import LocalFileSystem

from contracts.errors import RemoteError
from memory_bank.places import database_url, store_root
from memory_bank.store import ContentStore

Name: TypeAlias = Literal["call", "claim", "answer", "moved"]
ABANDONED_SECONDS = 86_400.0
"""Age at which nobody waits for an answer any more."""


class Exchange:
    """Reads and writes the calls of one store."""

    def __init__(self, root: str | None = None) -> None:
        """At a folder or fsspec URL, by default where the memory bank keeps pictures. Raises
        MemoryBankError."""
        place = root or store_root(None, database_url(None))
        self.pictures = ContentStore(place)
        self._files, path = fsspec.core.url_to_fs(place)
        self._calls = f"{path.rstrip('/')}/calls"
        self._local = isinstance(self._files, LocalFileSystem)

    def write(self, call: str, name: Name, value: Mapping[str, Any]) -> None:
        """Write one file of a call. Raises RemoteError."""
        path, content = self._path(call, name), json.dumps(value).encode()
        try:
            if self._local:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                temporary = f"{path}.{uuid.uuid4().hex}.tmp"
                with open(temporary, "wb") as file:
                    file.write(content)
                os.replace(temporary, path)
            else:
                self._files.pipe_file(path, content)
        except Exception as error:  # a remote file system raises its client's own errors
            raise _unreachable(path, error) from error

    def read(self, call: str, name: Name) -> dict[str, Any] | None:
        """One file of a call; None if it is not there (yet). Raises RemoteError."""
        path = self._path(call, name)
        try:
            value = json.loads(self._files.cat_file(path, start=0))  # S3's asks for the size first without
        except FileNotFoundError:
            return None
        except Exception as error:
            raise _unreachable(path, error) from error
        return value if isinstance(value, dict) else None

    def remove(self, call: str, keep: Name | None = None) -> None:
        """Take a call away, but for one file. What cannot be removed is left to `sweep`."""
        for name in ("call", "claim", "answer", "moved"):
            if name != keep:
                with contextlib.suppress(Exception):
                    self._files.rm_file(self._path(call, name))  # type: ignore[arg-type]
        if self._local and keep is None:
            with contextlib.suppress(OSError):
                os.rmdir(f"{self._calls}/{call}")

    def sweep(self) -> None:
        """Take away what nobody waits for any more."""
        with contextlib.suppress(Exception):
            for path, facts in self._files.find(self._calls, detail=True).items():
                moment = facts.get("mtime") or facts.get("LastModified") or time.time()
                written = moment.timestamp() if hasattr(moment, "timestamp") else float(moment)
                if time.time() - written > ABANDONED_SECONDS:
                    self._files.rm_file(path)

    def _path(self, call: str, name: str) -> str:
        return f"{self._calls}/{call}/{name}.json"


def _unreachable(path: str, error: Exception) -> RemoteError:
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return RemoteError(f"the shared store does not answer at {path} ({said})")

"""What was measured so far, one picture a line: an evaluation that was interrupted goes on from there.

The first line says what is being evaluated; a file of anything else is not continued but begun anew. When all
is measured the file loses its `.part`, and stays for whoever wants to look at single pictures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contracts.errors import InvalidInput
from defender.evaluation.figures import Row

NAME = "pictures.jsonl"


class Journal:
    """The rows of one evaluation, on disk as soon as they are known."""

    def __init__(self, folder: Path, subject: Mapping[str, Any]) -> None:
        """Take up what `folder` holds on the same subject (JSON-ready), or begin.

        Raises InvalidInput if the folder cannot be written.
        """
        self._finished, self._path = folder / NAME, folder / f"{NAME}.part"
        first = json.dumps({"subject": subject}, sort_keys=True)
        self.rows = _rows_on(self._path, first)
        self.resumed = len(self.rows)
        try:
            # Written anew, so that half a line at the end of an interrupted file is gone.
            lines = [first, *(_line(row) for row in self.rows)]
            self._path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        except OSError as error:
            raise InvalidInput(
                f"cannot write {self._path} ({error.strerror}): choose another --out"
            ) from error

    @property
    def done(self) -> frozenset[int]:
        """Indices of the pictures that have their row."""
        return frozenset(row["index"] for row in self.rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Write some rows at once."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{_line(row)}\n" for row in rows))
        # What a later sitting reads from the file is what this one goes on with.
        self.rows += [json.loads(_line(row)) for row in rows]

    def finish(self) -> Path:
        """All rows are there. Returns the file."""
        self._path.replace(self._finished)
        return self._finished


def _line(row: Row) -> str:
    return json.dumps(row, ensure_ascii=False)


def _rows_on(path: Path, first: str) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    if not lines or lines[0] != first:
        return []
    rows = []
    for line in lines[1:]:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the line at which it was interrupted
            break
    return rows

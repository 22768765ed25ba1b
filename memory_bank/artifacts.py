"""Files that were written for a person: pictures, masks, reports. Where they lie, and what is in them.

The store keeps content by what it shows; this keeps files by their bytes. So a picture that was written with
loss, whose pixels are no longer those of the store, is still known by its file.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from contracts.digests import file_sha256
from contracts.errors import InvalidInput
from memory_bank.rows import not_found, now
from memory_bank.settings import check_text
from memory_bank.tables import ArtifactRow, RunRow


@dataclass(frozen=True)
class Artifact:
    """One file of a run."""

    run_id: str
    kind: str
    """"picture", "mask", "report", ..."""
    machine: str
    place: str
    """Absolute path on that machine."""
    digest: str
    """sha256 of its bytes, when it was written."""
    size: int
    """Bytes."""
    made_at: str
    """UTC, ISO 8601."""

    @property
    def is_here(self) -> bool:
        """Is it still a file of this machine?"""
        return self.machine == socket.gethostname() and Path(self.place).is_file()


def artifact(run_id: str, kind: str, path: Path) -> Artifact:
    """What there is to say of a file of this machine. Raises InvalidInput if it cannot be read."""
    try:
        digest, size = file_sha256(path), path.stat().st_size
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror or error})") from error
    return Artifact(run_id, kind, socket.gethostname(), str(path.absolute()), digest, size, now())


def keep(session: Session, files: Sequence[Artifact]) -> None:
    """One row for each file of a run; one that was written again takes the place of what was there. Raises
    RunNotFound."""
    by_run: dict[str, list[Artifact]] = {}
    for file in files:
        by_run.setdefault(file.run_id, []).append(file)
    for run_id, own in by_run.items():
        run = session.scalar(select(RunRow).where(RunRow.run_id == run_id).with_for_update())
        if run is None:
            raise not_found(run_id)
        known = {
            (row.machine, row.place): row
            for row in session.scalars(select(ArtifactRow).where(ArtifactRow.run_pk == run.id))
        }
        for file in own:
            row = known.get((file.machine, file.place))
            if row is None:
                row = ArtifactRow(run_pk=run.id, machine=file.machine, place=check_text(file.place, "path"))
                session.add(row)
            row.kind, row.digest, row.size, row.made_at = file.kind, file.digest, file.size, file.made_at


def of_run(session: Session, run_id: str) -> list[Artifact]:
    """Files of a run, in the order in which they were first written."""
    return _found(session, RunRow.run_id == run_id)


def of_bytes(session: Session, digest: str) -> list[Artifact]:
    """Files with these bytes, of any run, the latest first."""
    return _found(session, ArtifactRow.digest == digest)[::-1]


def _found(session: Session, condition: object) -> list[Artifact]:
    statement = select(ArtifactRow, RunRow.run_id).join(RunRow, RunRow.id == ArtifactRow.run_pk)
    rows = session.execute(statement.where(condition).order_by(ArtifactRow.id))  # type: ignore[arg-type]
    return [
        Artifact(run_id, row.kind, row.machine, row.place, row.digest, row.size, row.made_at)
        for row, run_id in rows
    ]

"""The MemoryBank protocol over a SQL database and a content-addressed store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from sqlalchemy.orm import Session

from contracts.records import Content, Image, Lesson, Mask, Recollection, Symptom
from memory_bank import artifacts
from memory_bank.artifacts import Artifact
from memory_bank.committing import Committing
from memory_bank.costs import KeptCall, calls_of
from memory_bank.database import Database, Opening
from memory_bank.experience import (
    Learned,
    LessonFilter,
    keep_recollections,
    lessons,
    recall,
    recollected,
    recollections,
)
from memory_bank.lease import LEASE_SECONDS
from memory_bank.places import database_url, store_root
from memory_bank.rows import held_run
from memory_bank.schema import revision_of
from memory_bank.settings import check_run_id
from memory_bank.store import ContentStore, Kind, Stored
from memory_bank.upkeep import (
    Place,
    Progress,
    check_database,
    check_idle,
    lost,
    no_progress,
    places,
    references,
    unreferenced,
)


def open_memory_bank(
    url: str | None = None, images: str | None = None, opening: Opening = "use"
) -> SqlMemoryBank:
    """The memory bank at a database URL and an image store, by default the user's own.

    `url` falls back to LEGION_DATABASE_URL, then to a SQLite file under LEGION_HOME or the user's data
    directory; `images` (a folder or fsspec URL) to LEGION_STORE_URL, then to `store` beside that file. Raises
    MemoryBankError, InvalidInput.
    """
    return SqlMemoryBank(url, images, opening=opening)


class SqlMemoryBank(Committing):
    """Every step kept, once. May be shared by the threads of a process; processes open their own."""

    def __init__(
        self,
        url: str | None = None,
        images: str | None = None,
        *,
        lease_seconds: float = LEASE_SECONDS,
        opening: Opening = "use",
    ) -> None:
        """Arguments as of `open_memory_bank`; a lease expires `lease_seconds` after its last renewal."""
        address = database_url(url)
        super().__init__(Database(address, opening), ContentStore(store_root(images, address)), lease_seconds)

    # --- experience ----------------------------------------------------------------------------------------

    def recall(
        self, run_id: str, index: int, region: int, painter: str, symptoms: Sequence[Symptom]
    ) -> tuple[Lesson, ...]:
        """What runs before this one taught about such flaws, the best first.

        The first answer is kept with the round (region 0) or region of this run, and given again whenever it
        is asked for: a run that is taken up again, or done anew with `keep_recollections`, hears the same.
        Raises RunNotFound, RunBusy.
        """
        found = self._database.read(lambda session: recollected(session, run_id, index, region))
        if found is not None:
            return found

        def work(session: Session) -> tuple[Lesson, ...]:
            run = held_run(session, run_id)
            kept = recollected(session, run_id, index, region)  # by a try whose answer was lost
            return recall(session, run, index, region, painter, symptoms) if kept is None else kept

        return self._database.write(work)

    def recollections(self, run_id: str) -> list[Recollection]:
        """Everything that `recall` has told the run."""
        return self._database.read(lambda session: recollections(session, check_run_id(run_id)))

    def keep_recollections(self, run_id: str, told: Sequence[Recollection]) -> None:
        """Let `recall` tell a run, before it begins, what it was told elsewhere."""
        self._database.write(lambda session: keep_recollections(session, check_run_id(run_id), told))

    def lessons(self, wanted: LessonFilter) -> list[Learned]:
        """What was learned, as the filter says."""
        return self._database.read(lambda session: lessons(session, wanted))

    # --- costs and files -----------------------------------------------------------------------------------

    def calls(self, run_id: str) -> list[KeptCall]:
        """Every model call of a run, in the order in which its steps were committed; none for an unknown
        run."""
        return self._database.read(lambda session: calls_of(session, check_run_id(run_id)))

    def keep_artifacts(self, files: Sequence[Artifact]) -> None:
        """Keep which files runs were written to; one written again takes the place of what was there. Raises
        RunNotFound."""
        self._database.write(lambda session: artifacts.keep(session, files))

    def artifacts(self, run_id: str) -> list[Artifact]:
        """Files that a run was written to, oldest first; none for an unknown run."""
        return self._database.read(lambda session: artifacts.of_run(session, check_run_id(run_id)))

    def files_with(self, digest: str) -> list[Artifact]:
        """Files of any run that had these bytes (sha256) when they were written, the latest first."""
        return self._database.read(lambda session: artifacts.of_bytes(session, digest))

    # --- upkeep --------------------------------------------------------------------------------------------

    def schema(self) -> str | None:
        """The database's schema, None if it has no tables yet. Raises MemoryBankError."""
        return self._database.read(revision_of)

    def check_database(self) -> None:
        """Raises MemoryBankError if the database's file is damaged."""
        self._database.read(check_database)

    def lost(self, run_id: str | None = None, progress: Progress = no_progress) -> list[Content]:
        """Content that the rows of a run, or of all runs, name and the store does not hold whole."""
        named = self._database.read(lambda session: list(references(session, run_id)))
        return lost(named, self._store, progress)

    def put_back(self, kind: Kind, pixels: Image | Mask) -> str:
        """Store content that was made anew; its digest tells whether it is what was lost."""
        if kind == "mask":
            return self._store.put_mask(cast(Mask, pixels))
        image = cast(Image, pixels)
        return self._store.put_image(image) if kind == "image" else self._store.put_weights(image)

    def content(self, kind: Kind, digest: str) -> Image | Mask | None:
        """A picture, a mask or weights; None if the store does not hold it whole."""
        if not self._store.holds(kind, digest):
            return None
        reading = {"image": self._store.image, "mask": self._store.mask, "weight": self._store.weights}
        return cast("Image | Mask", reading[kind](digest))

    def places(self, digest: str) -> list[Place]:
        """Where a picture appears, the latest first."""
        return self._database.read(lambda session: places(session, digest))

    def unreferenced(self) -> list[Stored]:
        """Files of the store that no row names."""
        return self._database.read(lambda session: unreferenced(session, self._store))

    def collect(self) -> list[Stored]:
        """Delete the files that no row names, and return them. Raises RunBusy while a run is under way."""

        def work(session: Session) -> list[Stored]:
            check_idle(session)
            files = unreferenced(session, self._store)
            for file in files:
                self._store.remove(file.path)
            return files

        return self._database.write(work)

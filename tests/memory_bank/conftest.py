"""Fixtures: a home of its own for every test, both kinds of database, and a run with every kind of row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from databases import Place, place, postgres

from contracts.records import Diagnosis, Finding, Image, Revision, Score, Verdict
from memory_bank import SqlMemoryBank, open_memory_bank

__all__ = ["place", "postgres"]  # fixtures of both kinds of database


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("LEGION_HOME", str(folder))
    monkeypatch.delenv("LEGION_DATABASE_URL", raising=False)
    return folder


@pytest.fixture
def bank(place: Place) -> Iterator[SqlMemoryBank]:
    opened = open_memory_bank()
    yield opened
    opened.close()


@pytest.fixture
def picture() -> Callable[[int], Image]:
    return lambda seed: np.random.default_rng(seed).integers(0, 256, (20, 31, 3), dtype=np.uint8)


@pytest.fixture
def diagnosis() -> Diagnosis:
    rng = np.random.default_rng(3)
    masks = rng.random((3, 20, 31)) > 0.7
    masks[2] = masks[0]  # two findings may share a mask, a phrase and everything else
    return Diagnosis(
        findings=(
            Finding(masks[0], "missing shadow", 'no "shadow" under it', "physics", 0.1 + 0.2),
            Finding(masks[1], "dent", "außen eingedrückt 💥\nsecond line", "structure", 1.0),
            Finding(masks[2], "missing shadow", 'no "shadow" under it', "physics", np.float32(0.25)),
        ),
        synthetic_probability=0.75,
        answer="<p> missing shadow </p> [SEG]",
    )


@pytest.fixture
def fill(diagnosis: Diagnosis, picture: Callable[[int], Image]) -> Callable[[SqlMemoryBank, str, int], None]:
    """Commits every step of one round."""

    def commit(bank: SqlMemoryBank, run_id: str, index: int) -> None:
        bank.open_round(run_id, index, f"prompt {index}", 2**63 - index)
        bank.commit_image(run_id, index, picture(index), 1.5)
        bank.commit_diagnosis(run_id, index, diagnosis, 0.5)
        bank.commit_scores(
            run_id, index, [Score("preference", "1", np.float32(0.5)), Score("other", "2", -1.0)], 0.25
        )
        bank.commit_verdict(run_id, index, Verdict(index == 1, "better", "plateau" if index > 1 else None))
        bank.commit_revision(run_id, index, Revision("next", ("dent", "missing shadow"), "rules"), 0.125)

    return commit

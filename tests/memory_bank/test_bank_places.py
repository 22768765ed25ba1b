"""Where the memory bank lives, and one clear line when it cannot live there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from bank_samples import BEGIN

from contracts.errors import InvalidInput, LegionError, MemoryBankError
from memory_bank import open_memory_bank


def fails(url: str | None = None, images: str | None = None) -> str:
    with pytest.raises(LegionError) as caught:
        open_memory_bank(url, images)
    assert isinstance(caught.value, MemoryBankError | InvalidInput)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_default_is_under_the_home_in_wal_mode(home: Path) -> None:
    open_memory_bank().close()
    with sqlite3.connect(home / "memory_bank.sqlite3") as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    assert (home / "store").is_dir()


def test_environment_and_arguments(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEGION_DATABASE_URL", f"sqlite:///{tmp_path}/other/x.db")
    bank = open_memory_bank()
    with bank.begin("run", **BEGIN):
        pass
    bank.close()
    assert (tmp_path / "other" / "x.db").is_file() and (tmp_path / "other" / "store").is_dir()
    assert not home.exists()
    again = open_memory_bank(f"sqlite:///{tmp_path}/mine.db", str(tmp_path / "pictures"))
    assert again.runs() == [] and (tmp_path / "pictures").is_dir()
    again.close()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"this is not a database at all" * 100)
    assert str(path) in fails(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is not")


def test_a_folder_that_cannot_be_made_or_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "LEGION_HOME" in fails(f"sqlite:///{tmp_path}/file/x.db")
    assert "writable" in fails(images=str(tmp_path / "file" / "store"))
    (tmp_path / "folder.db").mkdir()
    assert "folder.db" in fails(f"sqlite:///{tmp_path}/folder.db")
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "file"))
    assert "LEGION_HOME" in fails()


def test_a_database_of_another_program(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as raw:
        raw.execute("CREATE TABLE runs (x)")
    raw.close()
    assert "another program (runs)" in fails(f"sqlite:///{tmp_path}/x.db")


@pytest.mark.parametrize("url", ["no url", "sqlite://", "sqlite:///:memory:"])
def test_urls_without_a_database_file(url: str) -> None:
    assert "sqlite:///PATH" in fails(url)


def test_an_unknown_kind_of_database_does_not_show_its_password() -> None:
    assert "secret" not in fails("nosuchdb://me:secret@host/x")


def test_a_store_of_an_unknown_kind() -> None:
    assert "nosuchstore" in fails(images="nosuchstore://x")

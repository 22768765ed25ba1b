"""Storage that fails under a command: full, read-only, of newer code, damaged, away, its clock set back.

Both loops, by the command line: one line, exit code 1, nothing half committed, and the run goes on afterwards
and ends as if nothing had happened.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from object_store import Endpoint, store
from PIL import Image as Pillow
from red_squares import assemble, picture, square_tools
from small_disk import SmallDisk, in_a_child, without_rights_of_root

from contracts.records import Run
from flows.cli import main
from memory_bank import open_memory_bank, patience
from memory_bank.rows import now

__all__ = ["store"]

RESUME = ["resume", "run", "--no-prefect", "--json"]
AT = 2
"""The painting before which it happens."""


class Loop:
    """A command, and what happens in the middle of it."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.happens: Callable[[], None] | None = None
        self.painted = 0

    def painting(self) -> None:
        """Called before each painting."""
        self.painted += 1
        if self.painted == AT and self.happens is not None:
            self.happens()

    def fails(self, happens: Callable[[], None] | None, line: str) -> None:
        """The command ends in one line that matches."""
        self.happens, self.painted = happens, 0
        code, _, err = said(self.words)
        self.happens = None
        errors = [text for text in err.splitlines() if text.startswith("error: ")]
        assert code == 1 and len(errors) == 1 and "Traceback" not in err, (code, err)
        assert re.search(line, errors[0]) and "unexpected" not in errors[0], errors[0]

    def goes_on(self, expected: list[object], words: list[str] = RESUME) -> None:
        """What is there is whole; the run is taken up and ends as it should."""
        bank = open_memory_bank()
        bank.check_database()
        if bank.schema() is not None and [run.run_id for run in bank.runs()]:
            assert bank.load("run").status == "interrupted" and bank.lost("run") == []
        bank.close()
        code, out, err = said(words)
        assert code == 0, err
        assert [run["run_id"] for run in json.loads(out)["runs"]] == ["run"]
        assert digests() == expected


def said(words: list[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main(words)
    return code, out.getvalue(), err.getvalue()


def digests() -> list[object]:
    """Every picture of the run and how it ended."""
    bank = open_memory_bank()
    run: Run = bank.load("run")
    bank.close()
    painted = [c.painted for item in run.rounds for x in item.repairs or () for c in x.candidates]
    return [run.status, run.result, *(item.image for item in run.rounds), *painted]


@pytest.fixture(params=["regenerate", "inpaint"])
def loop(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loop:
    """Both commands, with scripted tools, one painting at a time."""
    common = ["--no-prefect", "--batch-size", "1", "--seed", "7", "--run-id", "run", "--json", "--out"]
    common += [str(tmp_path / "out")]
    if request.param == "regenerate":
        tools = request.getfixturevalue("scripted")
        made = Loop(["regenerate", "a red cone", *common])
        tools.generator.before_painting = made.painting
        return made
    repairs = square_tools()
    assemble(monkeypatch, repairs)
    Pillow.fromarray(picture((4, 4, 8, 8), (20, 20, 26, 25))).save(tmp_path / "wall.png")
    made = Loop(["inpaint", str(tmp_path / "wall.png"), "--dilate", "1", "--feather", "1", *common])
    paint = repairs.inpainter.inpaint

    def inpaint(requests):
        made.painting()
        return paint(requests)

    monkeypatch.setattr(repairs.inpainter, "inpaint", inpaint)
    return made


@pytest.fixture
def expected(loop: Loop, tmp_path: Path) -> list[object]:
    """What comes of the command undisturbed, in a memory bank that is thrown away."""
    with home_at(tmp_path / "undisturbed"):
        code, _, err = said(loop.words)
        assert code == 0, err
        found = digests()
    shutil.rmtree(tmp_path / "undisturbed")
    assert loop.painted >= AT
    return found


@contextmanager
def home_at(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LEGION_HOME", str(folder))
        patched.delenv("LEGION_STORE_URL", raising=False)
        yield


@pytest.mark.parametrize("full", ["database", "store", "both"])
def test_a_full_disk(loop: Loop, expected: list[object], tmp_path: Path, full: str) -> None:
    def work() -> None:
        disk = SmallDisk(tmp_path / "small")
        small, large = disk.folder / "there", tmp_path / "large"
        os.environ["LEGION_HOME"] = str(large if full == "store" else small)
        os.environ["LEGION_STORE_URL"] = str(large if full == "database" else small / "pictures")
        line = "no space left|cannot be written" if disk.is_mounted else "failed|no space left|cannot be"
        loop.fails(disk.fill, f"(?i){line}")
        assert not list(tmp_path.rglob("*.tmp")), "a picture was left half written"
        disk.free()
        loop.goes_on(expected)

    in_a_child(work)


def test_no_space_for_the_files_of_a_finished_run(loop: Loop, expected: list[object], tmp_path: Path) -> None:
    def work() -> None:
        disk = SmallDisk(tmp_path / "out")
        if not disk.is_mounted:  # a limit would meet the memory bank first
            disk.fill = lambda: os.chmod(disk.folder, 0o555)  # type: ignore[method-assign]
            without_rights_of_root()
        loop.fails(disk.fill, r"cannot write to .*the run is kept, and legion show run --out DIR writes")
        assert digests() == expected
        assert said(["show", "run", "--out", str(tmp_path / "elsewhere")])[0] == 0
        assert (tmp_path / "elsewhere" / "report.html").is_file()

    in_a_child(work)


@pytest.mark.parametrize("closed", ["home", "existing home", "store", "out"])
def test_a_folder_that_cannot_be_written(
    loop: Loop, expected: list[object], tmp_path: Path, closed: str
) -> None:
    home = Path(os.environ["LEGION_HOME"])
    pictures = home / "store"

    def close(folder: Path, mode: int = 0o555) -> None:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(mode)

    def work() -> None:
        without_rights_of_root()
        if closed == "store":
            loop.fails(lambda: close(pictures), r"cannot be written \(.*ermission denied.*LEGION_STORE_URL")
            close(pictures, 0o755)
            loop.goes_on(expected)
            return
        folder = tmp_path / "out" if closed == "out" else home
        folder.mkdir(parents=True, exist_ok=True)
        if closed == "existing home":
            open_memory_bank().close()
        close(folder)
        loop.fails(None, "choose another folder" if closed == "out" else "writable")
        assert loop.painted == 0, "nothing is painted that cannot be kept"
        close(folder, 0o755)
        loop.goes_on(expected, loop.words)

    in_a_child(work)


def test_a_database_of_newer_code(loop: Loop, expected: list[object]) -> None:
    open_memory_bank().close()
    file = Path(os.environ["LEGION_HOME"]) / "memory_bank.sqlite3"
    schema = "UPDATE legion_schema_version SET version_num = ?"
    with closing(sqlite3.connect(file)) as database, database:
        ((known,),) = database.execute("SELECT version_num FROM legion_schema_version").fetchall()
        database.execute(schema, ["9999"])
    loop.fails(None, rf"newer version \(schema 9999, known is {known}\); update this program")
    assert loop.painted == 0
    with closing(sqlite3.connect(file)) as database, database:
        database.execute(schema, [known])
    loop.goes_on(expected, loop.words)


@pytest.mark.parametrize("damage", ["no database at all", "spoiled pages", "cut short"])
def test_a_damaged_database(loop: Loop, expected: list[object], damage: str) -> None:
    loop.happens = _press_ctrl_c
    loop.painted = 0
    assert said(loop.words)[0] == 130
    file = Path(os.environ["LEGION_HOME"]) / "memory_bank.sqlite3"
    with closing(sqlite3.connect(file)) as database, database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = file.read_bytes()
    spoiled = {
        "no database at all": b"notes of a person" * 1000,
        "spoiled pages": whole[:4096] + b"\x5a" * (len(whole) - 4096),
        "cut short": whole[: len(whole) // 2 // 4096 * 4096],
    }
    file.write_bytes(spoiled[damage])
    loop.fails(None, "no usable SQLite database .*; restore it or choose another")
    for left in file.parent.glob("memory_bank.sqlite3-*"):
        left.unlink()
    file.write_bytes(whole)
    loop.goes_on(expected)


def test_an_object_store_that_dies_in_the_middle(
    loop: Loop, expected: list[object], store: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "AWAY_SECONDS", 0.3)
    loop.fails(store.stop, "the image store s3://pictures/legion does not answer .*then resume")
    store.start()
    loop.goes_on(expected)


def test_a_clock_that_is_set_back_while_it_works(
    loop: Loop, expected: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.happens, loop.painted = lambda: _set_back(monkeypatch), 0
    code, _, err = said(loop.words)
    assert code == 0, err
    assert digests() == expected


def test_a_clock_that_is_set_back_after_a_kill(
    loop: Loop, expected: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    child = os.fork()
    if child == 0:
        loop.happens, loop.painted = lambda: os._exit(0), 0
        said(loop.words)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    _set_back(monkeypatch)
    loop.goes_on(expected)


def _press_ctrl_c() -> None:
    raise KeyboardInterrupt


def _set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an hour ago."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    for module in ("committing", "holding"):
        monkeypatch.setattr(f"memory_bank.{module}.now", lambda: f"2019{now()[4:]}")

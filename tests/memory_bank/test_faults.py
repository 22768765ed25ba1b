"""A full disk, a damaged file, a clock turned back, an object store that goes away: one line, and go on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import boto3
import numpy as np
import pytest
from bank_samples import BEGIN
from databases import Place
from object_store import Endpoint, store

from contracts.errors import MemoryBankError, RunBusy, StorageUnavailable
from contracts.records import Image
from memory_bank import SqlMemoryBank, open_memory_bank, patience
from memory_bank.lease import AHEAD_SECONDS, is_live
from memory_bank.store import ABANDONED_SECONDS, ContentStore, pixel_digest

__all__ = ["store"]

Fill = Callable[[SqlMemoryBank, str, int], None]
FILL_UP = f"""
import sys
import numpy as np
from contracts.errors import LegionError
from memory_bank import open_memory_bank
try:
    bank = open_memory_bank()
    with bank.begin("run", **{BEGIN!r}) as run:
        for index in range(len(run.rounds) + 1, 200):
            bank.open_round("run", index, "p" * 2000, index)
            picture = np.random.default_rng(index).integers(0, 256, (side := int(sys.argv[1]), side, 3))
            bank.commit_image("run", index, picture.astype(np.uint8), 0.1)
except LegionError as error:
    sys.exit(f"error: {{error}}")
"""


def with_little_space(side: int, limit: int) -> str:
    """Work in a process whose files cannot grow beyond `limit` bytes; what it says at the end."""

    def tighten() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write fails as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, "-c", FILL_UP, str(side)]
    return subprocess.run(command, preexec_fn=tighten, capture_output=True, text=True, timeout=120).stderr


@pytest.mark.parametrize(("side", "limit"), [(8, 400_000), (300, 200_000)], ids=["database", "store"])
def test_no_space_left(home: Path, side: int, limit: int) -> None:
    open_memory_bank().close()
    said = with_little_space(side, limit)
    assert said.startswith("error: ") and said.count("\n") == 1, said
    bank = open_memory_bank()
    rounds = bank.load("run").rounds
    assert bank.load("run").status == "interrupted" and bank.lost() == []
    bank.check_database()
    assert not list(home.rglob("*.tmp"))
    with bank.begin("run", **BEGIN) as run:  # there is space again
        assert len(run.rounds) == len(rounds)
        bank.open_round("run", len(rounds) + 1, "p", 1)
    bank.close()


def test_a_damaged_database_is_told_apart_from_an_old_one(home: Path, fill: Fill) -> None:
    bank = open_memory_bank()
    with bank.begin("run", **BEGIN):
        for index in range(1, 9):
            fill(bank, "run", index)
    bank.close()
    file = home / "memory_bank.sqlite3"
    subprocess.run([sys.executable, "-c", f"import sqlite3; c = sqlite3.connect({str(file)!r}); "
                    "c.execute('PRAGMA wal_checkpoint(TRUNCATE)'); c.close()"], check=True)  # fmt: skip
    content = bytearray(file.read_bytes())
    for page in range(4, len(content) // 4096 - 1, 2):
        content[page * 4096 : page * 4096 + 600] = b"\x5a" * 600
    file.write_bytes(content)
    with pytest.raises(MemoryBankError) as caught:
        open_memory_bank().check_database()
    assert "\n" not in str(caught.value) and "restore it" in str(caught.value)


def test_a_clock_that_was_turned_back_locks_nobody_out(bank: SqlMemoryBank, place: Place) -> None:
    with bank.begin("run", **BEGIN):
        bank.open_round("run", 1, "p", 1)
    hour = time.time() + 3600  # what another machine wrote before its clock, or ours, was set right
    place.execute(
        "UPDATE runs SET status = 'running', lease_holder = 'elsewhere:1:x', lease_expiry = :t", t=hour
    )
    assert bank.load("run").status == "interrupted"
    with bank.begin("run", **BEGIN) as run:
        assert len(run.rounds) == 1
    assert is_live("elsewhere:1:x", 1000.0 + AHEAD_SECONDS, 1000.0)
    assert not is_live("elsewhere:1:x", 1001.0 + AHEAD_SECONDS, 1000.0)


def test_runs_are_in_order_whatever_the_clock_says(
    bank: SqlMemoryBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, moment in (("first", "2026-05-01"), ("second", "2019-01-01")):
        monkeypatch.setattr("memory_bank.holding.now", lambda m=moment: f"{m}T00:00:00.000000+00:00")
        with bank.begin(name, **BEGIN):
            bank.open_round(name, 1, "p", 1)
    assert [run.run_id for run in bank.runs()] == ["second", "first"]


def test_files_that_no_run_needs(
    bank: SqlMemoryBank, fill: Fill, home: Path, picture: Callable[[int], Image]
) -> None:
    with bank.begin("run", **BEGIN):
        fill(bank, "run", 1)
        bank.put_back("image", picture(99))  # as a killed process leaves it: stored, not yet named
        with pytest.raises(RunBusy, match="wait until it ends"):
            bank.collect()
    images = home / "store" / "images"
    (images / "notes.txt").write_text("a person's own")
    half = images / "aa" / f".{'a' * 64}.png.{'b' * 32}.tmp"
    half.parent.mkdir(exist_ok=True)
    half.write_bytes(b"half")
    before = sorted(home.rglob("*.png"))
    (extra,) = bank.unreferenced()  # the unfinished file may still be written by somebody
    assert extra.digest == pixel_digest("image", picture(99)) and extra.size > 0
    assert sorted(home.rglob("*.png")) == before
    old = time.time() - ABANDONED_SECONDS - 1
    os.utime(half, (old, old))
    assert len(bank.collect()) == 2
    assert not half.exists() and (images / "notes.txt").exists()
    assert bank.unreferenced() == [] and bank.lost() == []
    bank.load("run")


def test_pictures_in_an_object_store(store: Endpoint, picture: Callable[[int], Image]) -> None:
    kept = ContentStore("s3://pictures/legion")
    image = picture(1)
    digest = kept.put_image(image)
    mask = kept.put_mask(image[..., 0] > 100)
    assert np.array_equal(kept.image(digest), image) and kept.put_image(image) == digest
    names = [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket="pictures")["Contents"]]
    assert sorted(names) == [
        f"legion/images/{digest[:2]}/{digest}.png",
        f"legion/masks/{mask[:2]}/{mask}.png",
    ]
    boto3.client("s3").put_object(Bucket="pictures", Key=names[0], Body=b"damaged")
    assert not kept.holds("image", digest)
    assert kept.put_image(image) == digest and kept.holds("image", digest)
    assert {file.digest for file in kept.files()} == {digest, mask}
    for file in list(kept.files()):
        kept.remove(file.path)
    assert list(kept.files()) == [] and not kept.holds("mask", mask)


def test_an_object_store_that_goes_away(
    store: Endpoint, home: Path, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = open_memory_bank()
    with bank.begin("run", **BEGIN):
        fill(bank, "run", 1)
    assert not (home / "store").exists()
    store.stop()
    monkeypatch.setattr(patience, "AWAY_SECONDS", 0.2)
    with pytest.raises(StorageUnavailable, match="does not answer .*; start it, or choose another") as caught:
        with bank.begin("run", **BEGIN):
            pytest.fail("went on without its masks")
    assert "\n" not in str(caught.value)
    store.start()
    with bank.begin("run", **BEGIN) as run:
        assert len(run.rounds) == 1
        fill(bank, "run", 2)
    bank.close()


def test_a_bucket_that_is_not_there(store: Endpoint, picture: Callable[[int], Image]) -> None:
    other = ContentStore("s3://key:secret@nowhere/x")
    with pytest.raises(MemoryBankError) as caught:
        ContentStore("s3://nowhere/x").put_image(picture(1))
    assert "LEGION_STORE_URL" in str(caught.value) and "\n" not in str(caught.value)
    assert "secret" not in other.root

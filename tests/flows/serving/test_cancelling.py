"""Runs of a terminal on Prefect's page: answered there, and cancelled there while they paint or wait. On a
real server, with scripted tools."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
from person import SECONDS, Person, answer, cancel

from flows.cli import main
from flows.jobs.approval import Audience
from flows.jobs.regeneration import make_job
from flows.profiles.loading import load_profile
from memory_bank import open_memory_bank

pytestmark = pytest.mark.prefect


def job(word: str, run_id: str):
    return make_job("tabletop", load_profile("tabletop"), [f"a red {word}"], run_id, seed=7, rounds=2)


def test_a_terminals_run_is_answered_on_the_page(server, scripted, capsys) -> None:
    person = Person("regenerate · a red mug", "PAUSED", answer)
    words = ["regenerate", "a red mug", "--rounds", "1", "--review", "final", "--review-on", "page"]
    assert main([*words, "--run-id", "on-page"]) == 0
    assert person.final_state() == "COMPLETED"
    (item,) = open_memory_bank().load("on-page").rounds
    assert (item.review.decision, item.review.who, item.review.note) == ("reject", "Ada", "too plain")
    said = capsys.readouterr().err
    assert "round 1 of a red mug waits for a decision: http://" in said and "/runs/flow-run/" in said


def test_a_paused_run_that_is_cancelled_stays_so_and_is_taken_up_again(server, scripted, capsys) -> None:
    person = Person("regenerate · a red lamp", "PAUSED", cancel)
    words = ["regenerate", "a red lamp", "--rounds", "1", "--review", "final", "--review-on", "page"]
    assert main([*words, "--run-id", "off"]) == 130
    assert person.final_state() == "CANCELLED"
    said = capsys.readouterr().err
    assert "cancelled on Prefect's page: what is finished is kept" in said
    assert "takes it up again:" in said and "--run-id off" in said and "Traceback" not in said
    before = open_memory_bank().load("off")
    assert before.status == "interrupted" and before.rounds[0].image and before.rounds[0].verdict is None

    painted = len(scripted.generator.requests)
    assert main(["resume", "off", "--no-prefect"]) == 0
    assert open_memory_bank().load("off").status == "finished"
    assert len(scripted.generator.requests) == painted


def test_a_run_that_paints_ends_at_its_next_step(server, scripted, monkeypatch) -> None:
    from flows.regeneration import regenerate_with_prefect
    from flows.serving import board

    monkeypatch.setattr(board, "LOOK_SECONDS", 0.1)
    cancelled = threading.Event()

    def press(client: Any, flow_run: str) -> None:
        cancel(client, flow_run)
        cancelled.set()

    def paint_slowly() -> None:
        assert cancelled.wait(SECONDS)
        time.sleep(2)  # the run sees it

    scripted.generator.before_painting = paint_slowly
    person = Person("regenerate · a red door", "RUNNING", press)
    with pytest.raises(KeyboardInterrupt):
        regenerate_with_prefect(job("door", "door"), Audience())
    assert person.final_state() == "CANCELLED"
    (item,) = open_memory_bank().load("door").rounds
    assert item.image is not None and item.diagnosis is None  # the step that was under way is kept


def test_a_run_that_is_cancelled_at_its_end_does_not_stay_cancelling(server, scripted, monkeypatch) -> None:
    from flows.regeneration import regenerate_with_prefect
    from flows.serving import board

    monkeypatch.setattr(board, "LOOK_SECONDS", 3600.0)  # it never sees it
    cancelled = threading.Event()

    def press(client: Any, flow_run: str) -> None:
        cancel(client, flow_run)
        cancelled.set()

    scripted.generator.before_painting = lambda: cancelled.wait(SECONDS)
    person = Person("regenerate · a red roof", "RUNNING", press)
    (run,) = regenerate_with_prefect(job("roof", "roof"), Audience())
    assert run.status == "finished" and person.final_state() == "CANCELLED"


# --- at the last moment ---------------------------------------------------------------------------------


class LastMoment:
    """A server on which a run is paused when it is looked at, and something else when it is to run on."""

    def __init__(self, accepts: bool) -> None:
        self._accepts = accepts

    def read_flow_run(self, _id: object) -> Any:
        from prefect.states import Paused

        return SimpleNamespace(state=Paused())

    def set_flow_run_state(self, _id: object, state: Any, force: bool = False) -> Any:
        from prefect.client.schemas.responses import SetStateStatus

        assert state.is_running() and not force  # forced, it would run although it was cancelled
        return SimpleNamespace(status=SetStateStatus.ACCEPT if self._accepts else SetStateStatus.REJECT)


@pytest.fixture
def reviewing(server):
    from flows.serving import reviewing

    return reviewing


@pytest.mark.parametrize("deployment", [None, "served"])
def test_a_run_cancelled_as_its_time_ran_out_is_not_revived(reviewing, deployment) -> None:
    run = SimpleNamespace(id="1", deployment_id=deployment)
    with pytest.raises(reviewing.RunCancelled):
        reviewing._answer(LastMoment(False), run, reviewing.RoundDecision, {"response": "r"}, 0.0)


def test_an_answer_of_the_last_moment_counts(reviewing, monkeypatch) -> None:
    said: dict[str, dict[str, str]] = {"r": {"decision": "stop", "your_name": "Ada"}}
    monkeypatch.setattr(reviewing, "read_flow_run_input", lambda key, flow_run_id: said.get(key))
    run = SimpleNamespace(id="1", deployment_id=None)
    for key, expected in (("r", "stop"), ("other", None)):
        found = reviewing._answer(LastMoment(True), run, reviewing.RoundDecision, {"response": key}, 0.0)
        assert getattr(found, "decision", None) == expected


def test_nobody_is_asked_on_a_page_without_a_flow_run(server, scripted) -> None:
    from contracts.errors import LegionError
    from flows.serving.reviewing import RoundDecision, _paused

    with pytest.raises(LegionError, match="use --review-on terminal"):
        _paused(RoundDecision, "key", 1.0)

"""Nobody answers on Prefect's page: a real flow run on a real server pauses, gives the GPU back, and goes on
with what stands then."""

from __future__ import annotations

import threading
import time

import pytest

from contracts.errors import LegionError
from flows.jobs.approval import NOBODY, AfterTimeout, Approval, Audience
from flows.jobs.regeneration import make_job
from flows.profiles.loading import load_profile
from memory_bank import open_memory_bank

pytestmark = pytest.mark.prefect

SECONDS = 2.0
"""For which an answer is waited for."""


class Watcher(threading.Thread):
    """Looks at a flow run and at its GPU's slot until it is told to end."""

    def __init__(self, name: str, limit: str) -> None:
        super().__init__(daemon=True)
        self.name_of_run, self.limit = name, limit
        self.states: list[str] = []
        self.taken_while_paused: list[int] = []
        self._over = threading.Event()

    def run(self) -> None:
        from prefect.client.orchestration import get_client

        with get_client(sync_client=True) as client:
            while not self._over.wait(0.1):
                before = self._state(client)
                if before is None:
                    continue
                if not self.states or self.states[-1] != before:
                    self.states.append(before)
                if before == "PAUSED":
                    taken = client.read_global_concurrency_limit_by_name(self.limit).active_slots
                    if self._state(client) == "PAUSED":  # before and after, so at that moment, too
                        self.taken_while_paused.append(taken)

    def end(self) -> None:
        time.sleep(0.5)  # it sees the last state, too
        self._over.set()
        self.join(30)

    def _state(self, client) -> str | None:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName

        wanted = FlowRunFilter(name=FlowRunFilterName(any_=[self.name_of_run]))
        found = client.read_flow_runs(flow_run_filter=wanted)
        return found[0].state.type.value if found and found[0].state else None


def unanswered(monkeypatch, word: str, after_timeout: AfterTimeout) -> Watcher:
    """A run of one prompt whose two rounds are shown to somebody who is not there."""
    monkeypatch.setenv("LEGION_GPU", f"box-{after_timeout}")
    from flows.regeneration import regenerate_with_prefect

    job = make_job("tabletop", load_profile("tabletop"), [f"a red {word}"], after_timeout, seed=7, rounds=2)
    approval = Approval("each-round", SECONDS / 60, after_timeout)
    watcher = Watcher(f"regenerate · a red {word}", f"gpu:box-{after_timeout}")
    watcher.start()
    try:
        regenerate_with_prefect(job, Audience(approval=approval))
    finally:
        watcher.end()
    return watcher


def test_the_gates_word_stands_and_the_gpu_is_free_meanwhile(server, scripted, monkeypatch) -> None:
    watcher = unanswered(monkeypatch, "cone", "gate")
    run = open_memory_bank().load("gate")
    assert run.status == "finished"
    assert [(r.review.decision, r.review.who) for r in run.rounds] == [("gate", NOBODY)] * len(run.rounds)
    assert len(run.rounds) == 2 and run.rounds[0].verdict.accepted
    # Prefect leaves a run paused when nobody answers: this one runs on, and completes.
    assert "PAUSED" in watcher.states and watcher.states[-1] == "COMPLETED"
    assert "RUNNING" in watcher.states[watcher.states.index("PAUSED") :]
    assert watcher.taken_while_paused and set(watcher.taken_while_paused) == {0}


def test_the_run_stops_where_that_was_asked_for(server, scripted, monkeypatch) -> None:
    watcher = unanswered(monkeypatch, "ball", "stop")
    run = open_memory_bank().load("stop")
    assert [(r.review.decision, r.review.who) for r in run.rounds] == [("stop", NOBODY)]
    assert run.status == "finished" and run.rounds[0].verdict.stop
    assert watcher.states[-1] == "COMPLETED" and set(watcher.taken_while_paused) == {0}


def test_the_run_fails_in_one_line_and_can_be_taken_up_again(server, scripted, monkeypatch) -> None:
    with pytest.raises(LegionError, match="nobody answered within .* legion resume fail --review each-round"):
        unanswered(monkeypatch, "table", "fail")
    before = open_memory_bank().load("fail")
    assert before.status == "interrupted" and before.rounds[0].image and before.rounds[0].verdict is None

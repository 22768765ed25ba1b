"""What benchmarks/orchestration.py measures: every round of the whole loop, with tools that only sleep."""

from __future__ import annotations

from argparse import Namespace

import pytest

from benchmarks import orchestration
from benchmarks.orchestration import Cost
from controller.regeneration import STEPS
from controller.steps import StepFinished
from memory_bank import open_memory_bank


def test_every_step_of_every_round_is_taken() -> None:
    heard: list = []
    orchestration.plain(orchestration.job("mine"), orchestration.tools(0.0), heard.append)
    run = open_memory_bank().load("mine")
    assert run.status == "finished" and len(run.rounds) == orchestration.ROUNDS
    steps = [event.step for event in heard if isinstance(event, StepFinished)]
    assert steps == [*STEPS, *STEPS, *STEPS[:-1]]


def test_tools_sleep_as_long_as_they_are_told(monkeypatch) -> None:
    naps: list[float] = []
    monkeypatch.setattr(orchestration.time, "sleep", naps.append)
    orchestration.plain(orchestration.job("mine"), orchestration.tools(0.5), lambda _event: None)
    assert naps == [0.5] * 11


def test_the_table_compares_pair_by_pair(capsys) -> None:
    walls = [(1.0, 1.1), (2.0, 2.1), (1.0, 1.0)]
    pairs = [{"plain": Cost(plain, 0.1), "prefect": Cost(more, 0.2)} for plain, more in walls]
    first = {"plain": [Cost(1.0, 0.5), Cost(2.0, 0.5)], "prefect": [Cost(3.0, 2.5), Cost(4.0, 2.7)]}
    orchestration.report(pairs, first, Namespace(rounds=3, seconds=0.5, json=False))
    table = capsys.readouterr().out
    assert "| more than alone | 5.0 (0.0 to 10.0) % |  |" in table
    assert "| as a Prefect flow, server running | 1.10 (1.00 to 2.10) s | 0.20 s |" in table
    assert "| first step after launch, server running | 3.50 (3.00 to 4.00) s | 2.60 s |" in table


def test_a_server_that_does_not_answer() -> None:
    assert not orchestration.answers("http://127.0.0.1:9/health")
    with pytest.raises(KeyError):
        orchestration.run_cost("elsewhere", "mine", 0.0, 1)

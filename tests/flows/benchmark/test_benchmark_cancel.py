"""A terminal's benchmark that is cancelled on Prefect's page ends at its next step, and goes on as if it had
never stopped. On a real server, with scripted tools."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from benchmark_world import FACTS, numbers, plan
from person import SECONDS, Person, cancel

from flows.benchmark import running

ARMS = ("one-shot", "best-of-n", "regeneration")


@pytest.mark.prefect
def test_cancelled_on_its_page_it_ends_at_the_next_step_and_goes_on(
    server, world, profile, tmp_path, monkeypatch
) -> None:
    from flows.benchmark.flow import benchmark_with_prefect
    from flows.serving import board

    monkeypatch.setattr(board, "LOOK_SECONDS", 0.1)
    asked = plan(profile, running.SHARE + 1, ARMS)  # two shares
    able, said = running.prepare(asked)
    cancelled, told = threading.Event(), []

    def press(client: Any, flow_run: str) -> None:
        cancel(client, flow_run)
        cancelled.set()

    generate = world.painter.generate

    def slowly(requests):
        assert cancelled.wait(SECONDS)
        time.sleep(2)  # the run sees it
        return generate(requests)

    monkeypatch.setattr(world.painter, "generate", slowly)
    person = Person(f"benchmark · {running.SHARE + 1} prompts · 3 arms", "RUNNING", press)
    with pytest.raises(KeyboardInterrupt):
        benchmark_with_prefect(able, said, FACTS, tmp_path / "out", "threads", 2, say=told.append)
    assert person.final_state() == "CANCELLED"
    assert told == ["cancelled on Prefect's page: what is finished is kept"]
    kept = len(world.painter.seen)
    assert 0 < kept < running.SHARE + 1, "the step that was under way is kept, and no other began"

    monkeypatch.setattr(world.painter, "generate", generate)
    done = benchmark_with_prefect(able, said, FACTS, tmp_path / "out", "threads", 2)
    gone_on = numbers(done.figures.results)
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "anew"))
    world.patch(monkeypatch)
    able, said = running.prepare(asked)
    assert numbers(running.run(able, said, running.one_by_one(), FACTS)) == gone_on

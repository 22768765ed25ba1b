"""The flow on a temporary server: the plain loop's result, tasks with plain names, one gallery per run."""

from __future__ import annotations

import pytest

from contracts.errors import LegionError, MemoryBankError, ModelError, RemoteError, StorageUnavailable
from flows.jobs.approval import Audience
from flows.jobs.regeneration import execute, make_job
from flows.profiles.loading import load_profile
from memory_bank import open_memory_bank

pytestmark = pytest.mark.prefect


def job(prompts, run_id):
    return make_job("tabletop", load_profile("tabletop"), prompts, run_id, seed=7, rounds=3)


def rows(run):
    return [(r.index, r.prompt, r.seed, r.image, r.scores, r.verdict, r.revision) for r in run.rounds]


def test_the_flow_gives_what_the_plain_loop_gives(server, scripted, tmp_path, monkeypatch) -> None:
    import httpx
    from prefect.settings import PREFECT_API_URL

    from flows.regeneration import regenerate_with_prefect

    events = []
    flown = regenerate_with_prefect(job(["a red cone", "a blue ball"], "flown"), Audience(events.append))
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "other"))
    plain = execute(job(["a red cone", "a blue ball"], "flown"), scripted, open_memory_bank())
    assert [rows(run) for run in flown] == [rows(run) for run in plain]
    assert events

    def kept(what: str) -> list:
        return httpx.post(f"{PREFECT_API_URL.value()}/{what}/filter", json={}).raise_for_status().json()

    galleries = [row for row in kept("artifacts") if (row["key"] or "").startswith("gallery-")]
    assert {row["key"] for row in galleries} == {"gallery-flown-1", "gallery-flown-2"}
    assert all(row["data"].count("(data:image/jpeg") >= 3 for row in galleries)
    assert {row["type"] for row in kept("artifacts")} >= {"markdown", "table", "progress"}
    (flow_run,) = [row for row in kept("flow_runs") if row["name"] == "regenerate · 2 prompts"]
    assert flow_run["state"]["type"] == "COMPLETED"
    assert {"legion", "profile:tabletop", "kind:regeneration"} <= set(flow_run["tags"])
    assert "paint · 2 prompts · round 1/3" in {row["name"] for row in kept("task_runs")}


def test_prefect_is_told_the_beginning_of_a_job_too_long_for_it(server, scripted, monkeypatch) -> None:
    import httpx
    from prefect.settings import PREFECT_API_URL

    from flows.regeneration import regenerate_with_prefect

    monkeypatch.setattr("flows.jobs.parameters.MOST_TOLD", 50)
    monkeypatch.setattr("flows.jobs.parameters.TOLD_OF_MANY", 1)
    prompts = ["a red cone", "a blue ball", "a green ring"]
    assert [run.prompt for run in regenerate_with_prefect(job(prompts, "long"))] == prompts
    asked = {"flow_runs": {"name": {"any_": ["regenerate · 3 prompts"]}}}
    (kept,) = httpx.post(f"{PREFECT_API_URL.value()}/flow_runs/filter", json=asked).raise_for_status().json()
    told = kept["parameters"]["job"]
    assert [case["prompt"] for case in told["cases"]] == prompts[:1] and told["of"] == 3


def test_tasks_are_named_in_plain_words_and_keep_nothing(server) -> None:
    from prefect import flow
    from prefect.context import TaskRunContext

    from flows.regeneration import run_as_task

    seen = []

    @flow
    def watched() -> None:
        def work() -> None:
            context = TaskRunContext.get()
            assert context is not None
            seen.append((context.task.name, context.task_run.name, context.persist_result))

        run_as_task("paint", "paint · round 2 · 16 pictures", work)

    watched()
    assert seen == [("paint", "paint · round 2 · 16 pictures", False)]


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (RemoteError("busy"), 2),
        (StorageUnavailable("away"), 2),
        (ModelError("broken"), 1),
        (MemoryBankError("full"), 1),
    ],
)
def test_only_what_may_pass_is_tried_again(server, monkeypatch, error, tries) -> None:
    from prefect import flow

    from flows import regeneration

    monkeypatch.setattr(regeneration, "RETRY_DELAYS", [0])
    calls = []

    @flow
    def failing() -> None:
        def work() -> None:
            calls.append(1)
            raise error

        regeneration.run_as_task("paint", "paint · round 1 · 1 picture", work)

    with pytest.raises(type(error), match=str(error)):
        failing()
    assert len(calls) == tries


def test_a_server_that_cannot_be_reached_is_one_line(server) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.regeneration import start_server

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        with pytest.raises(LegionError, match="add --no-prefect to run without it"):
            start_server()

"""The flow on Prefect: whatever spreads the work, the results are those of one process without it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from benchmark_world import FACTS, World, numbers, plan

from contracts.errors import InvalidInput
from flows.benchmark import running

SCRIPTED = Path(__file__).parent / "scripted"
ARMS = ("one-shot", "best-of-n", "regeneration", "inpainting")
PATIENT = {
    # A cluster on a busy machine may take minutes to come up: nothing here is about time.
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "300s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "300s",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_health_check_timeout_ms": "300000",
    "RAY_worker_niceness": "0",  # its 15 would leave the workers nothing where others work, too
    # Ray would keep a token in the home folder, and report usage to its makers.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@pytest.fixture
def scripted_workers(monkeypatch) -> None:
    """Processes that a runner starts take the scripted assembly, by the environment they inherit."""
    path = [str(SCRIPTED), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    for name, value in PATIENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.prefect
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("runner", ["threads", "dask", "ray"])
def test_results_are_the_same_whatever_spreads_the_work(
    server, scripted_workers, world, profile, tmp_path, monkeypatch, runner
) -> None:
    from flows.benchmark.flow import benchmark_with_prefect

    asked = plan(profile, running.SHARE + 1, ARMS)  # two shares
    able, said = running.prepare(asked)
    alone = numbers(running.run(able, said, running.one_by_one(), FACTS))

    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "spread"))
    here = World()
    here.patch(monkeypatch)
    able, said = running.prepare(asked)
    done = benchmark_with_prefect(able, said, FACTS, tmp_path / "out", runner, workers=2)
    assert numbers(done.figures.results) == alone
    assert (tmp_path / "out" / "report.html").is_file()
    assert bool(here.painter.seen) == (runner == "threads"), "other processes have painters of their own"


@pytest.mark.prefect
def test_prefects_pages_show_progress_tables_and_gallery(server, world, profile, tmp_path) -> None:
    from flows.benchmark.flow import benchmark_with_prefect

    able, said = running.prepare(plan(profile, 2, ARMS))
    benchmark_with_prefect(able, said, FACTS | {"profile": "of this test"}, tmp_path, "threads", 1)
    run = flow_run_tagged("profile:of this test")
    assert run.name == "benchmark · 2 prompts · 4 arms"
    assert {"legion", "kind:benchmark"} <= set(run.tags)
    kept = {artifact.key: artifact for artifact in artifacts_of(run)}
    assert kept[None].type == "progress" and kept[None].data == 100
    assert "### Final pictures" in kept["benchmark-report"].data
    assert "**regeneration** against best-of-n" in kept["benchmark-report"].data
    assert "after each generator call\n\n| arm | 1 | 2 | 3 |" in kept["benchmark-report"].data
    assert [row["arm"] for row in json.loads(kept["benchmark-summary"].data)] == list(ARMS)


def flow_run_tagged(tag: str):
    """The one flow run with this tag."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(tags=FlowRunFilterTags(all_=[tag])))
    return run


def artifacts_of(run):
    """All artifacts of a flow run."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=wanted)


@pytest.mark.parametrize(("runner", "module"), [("dask", "prefect_dask"), ("ray", "prefect_ray")])
def test_a_runner_that_is_missing_is_named_with_what_installs_it(monkeypatch, runner, module) -> None:
    from flows.benchmark.flow import task_runner

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidInput, match=rf"'{runner}' is not installed .*pip install '\.\[{runner}\]'"):
        task_runner(runner, 1)

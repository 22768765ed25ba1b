"""The flow on Prefect: its results are those of one process without it, and a missing runner is named."""

from __future__ import annotations

import pytest
from benchmark_world import World, numbers, plan

from contracts.errors import InvalidInput
from flows.benchmark import running

FACTS = {"profile": "squares", "source": "test", "budget": 3, "seeds": 1, "seed": 1}
ARMS = ("one-shot", "best-of-n", "regeneration", "inpainting")


@pytest.mark.prefect
def test_threads_come_to_the_results_of_one_process(server, world, profile, tmp_path, monkeypatch) -> None:
    from flows.benchmark.flow import benchmark_with_prefect

    asked = plan(profile, running.SHARE + 1, ARMS)  # two shares
    able, said = running.prepare(asked)
    alone = numbers(running.run(able, said, running.one_by_one(), FACTS))

    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "spread"))
    World().patch(monkeypatch)
    able, said = running.prepare(asked)
    out = tmp_path / "out"
    done = benchmark_with_prefect(able, said, FACTS, out, "threads", 2)
    assert numbers(done.figures.results) == alone
    assert (out / "report.html").is_file()


@pytest.mark.parametrize(("runner", "module"), [("dask", "prefect_dask"), ("ray", "prefect_ray")])
def test_a_runner_that_is_missing_is_named_with_what_installs_it(monkeypatch, runner, module) -> None:
    import sys

    from flows.benchmark.flow import task_runner

    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidInput, match=rf"'{runner}' is not installed .*pip install '\.\[{runner}\]'"):
        task_runner(runner, 1)

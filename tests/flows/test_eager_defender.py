"""The regeneration loop's defender names artifacts from a lower probability on than a diagnosis does."""

from __future__ import annotations

import pytest

from flows.profiles.loading import load_profile
from flows.workers.tools import regeneration_tools as worker_tools
from memory_bank import open_memory_bank

pytestmark = pytest.mark.slow  # loads the bundled models


def limit(defender) -> float:
    return defender.describe()["thresholds"]["artifact_probability"]


def test_the_loop_looks_harder_than_a_diagnosis_with_one_network_for_both(monkeypatch) -> None:
    from controller.generators.shelf import Shelf
    from flows import assemble

    monkeypatch.setattr(assemble, "SHELF", Shelf())
    for part in (assemble.defender, assemble.regeneration_tools, assemble.scorers):
        part.cache_clear()
    asked = load_profile("tabletop").loop.artifact_probability
    diagnosing, repairing = assemble.defender("tabletop"), assemble.inpainting_tools("tabletop").defender
    looping = assemble.regeneration_tools("tabletop").defender
    assert limit(looping) == asked < limit(diagnosing) == limit(repairing)
    assert diagnosing.describe()["checkpoint"] == looping.describe()["checkpoint"]
    assert [count for key, count in assemble.SHELF.loads.items() if key[0] == "defender"] == [1]
    for part in (assemble.defender, assemble.regeneration_tools, assemble.scorers):
        part.cache_clear()  # they hold tools of this test's shelf


def test_workers_and_benchmarks_look_as_the_loop_does() -> None:
    from flows.benchmark.tools import Toolbox
    from flows.jobs.regeneration import make_job
    from flows.workers.models import perform, tool_of

    profile = load_profile("tabletop")

    def ask(part, method, tool, arguments):
        question = {"part": part, "method": method, "tool": tool, "arguments": arguments}
        return perform("tabletop", question, tool_of)

    job = make_job("tabletop", profile, ["a red cone"], "looking", 7, 1)
    assert limit(worker_tools(job, ask).defender) == profile.loop.artifact_probability
    box = Toolbox("tabletop", open_memory_bank(), 1)
    assert limit(box.regeneration_defender) == profile.loop.artifact_probability < limit(box.defender)

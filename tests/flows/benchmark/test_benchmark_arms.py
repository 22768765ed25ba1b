"""Every arm at its budget, paired, sharing pictures and charged for all; what is missing is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_world import PROFILE, SQUARES, Painter, World, benchmark, numbers, plan
from PIL import Image as Pillow
from red_squares import picture

from contracts.errors import InvalidInput
from contracts.records import GenerationRequest
from flows.benchmark import arms, figures, running
from flows.benchmark.figures import final, grid
from flows.benchmark.results import Results
from flows.benchmark.tools import Steady
from flows.benchmark.trails import Spent, Stand, Trail, prices


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Iterator[tuple[World, Results]]:
    """All arms once, and the tools that were asked."""
    folder = tmp_path_factory.mktemp("measured")
    profile = folder / "squares.toml"
    profile.write_text(PROFILE)
    world = World()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LEGION_HOME", str(folder))
        world.patch(patched)
        yield world, benchmark(plan(profile, 3, seeds=2))


@pytest.fixture
def results(measured) -> Results:
    return measured[1]


def test_every_arm_keeps_its_budget_and_begins_with_the_same_picture(results) -> None:
    assert len(results.ran) == 8
    for arm in results.ran:
        for p, row in enumerate(results.trails[arm.name]):
            assert len(row) == 2
            for k, trail in enumerate(row):
                spent = trail.within(3).spent
                assert 1 <= spent.calls <= 3
                first = results.trails["one-shot"][p][k].end.picture
                if arm.name != "suffix":
                    assert trail.stands[0].picture == first
    work = figures.costs(results)
    assert work["one-shot"].calls.mean == 1 and work["best-of-n"].calls.mean == 3
    assert work["inpainting"].work["inpaint"] > 0 and work["inpainting"].work["paint"] == 1
    assert work["regeneration"].work["diagnose"] == work["regeneration"].work["paint"]


def test_no_arm_teaches_the_memory_that_a_person_s_runs_ask(measured) -> None:
    from memory_bank.experience import LessonFilter

    assert running.open_bank().lessons(LessonFilter()) == []


def test_a_picture_is_painted_once_and_charged_to_each(measured) -> None:
    world, results = measured
    calls = [set(world.painter.seen[i : i + 4]) for i in range(0, len(world.painter.seen), 4)]
    distinct = set().union(*calls)
    assert sum(map(len, calls)) == len(distinct)  # what fills a batch up repeats what is in it
    charged = sum(trail.end.spent.paint for rows in results.trails.values() for row in rows for trail in row)
    assert charged > 1.5 * len(distinct)


def test_what_selects_does_not_report_and_what_reports_does_not_select(measured) -> None:
    world, results = measured
    roles = {measure.name: measure.role for measure in results.measures}
    assert roles == {"report": "reporting", "taste": "selection", "artifact-free area": "in the loop"}
    at = final(results)
    again, first = (grid(results, name, "taste", at) for name in ("best-of-n", "one-shot"))
    assert (again >= first).all() and (again > first).any()
    pictures = {
        stand.picture for rows in results.trails.values() for row in rows for t in row for stand in t.stands
    }
    measured = sum(world.report.batches)
    assert measured < 2 * len(pictures) + 2 * 16  # each once, and the sample for the noise twice


def test_findings_help_more_than_none(results) -> None:
    at = final(results)
    loop, blind = (
        grid(results, name, "artifact-free area", at).mean() for name in ("regeneration", "one-shot")
    )
    assert loop > blind
    aimed, random = (
        grid(results, name, "artifact-free area", at).mean() for name in ("inpainting", "random-inpainting")
    )
    assert aimed > random


def test_prompts_are_rewritten_without_a_look(world, profile) -> None:
    found = benchmark(plan(profile, 2, ("one-shot", "rewriting", "suffix")))
    assert not world.looker.seen or found  # only the area measure looks
    prompts = {prompt for prompt, _ in world.painter.seen}
    assert any(prompt.endswith(", natural shadow") for prompt in prompts)
    assert any("natural shadow, perfect shape" in prompt for prompt in prompts)
    assert any(prompt.endswith(", clean surface") for prompt in prompts)


@pytest.mark.parametrize(
    ("missing", "lost"),
    [
        ("mender", {"inpainting", "regeneration-inpainting", "random-inpainting"}),
        ("looker", {"inpainting", "regeneration", "regeneration-inpainting", "random-inpainting"}),
    ],
)
def test_an_arm_without_its_model_is_reported_and_the_others_finish(
    profile, monkeypatch, missing, lost
) -> None:
    World(missing=(missing,)).patch(monkeypatch)
    results = benchmark(plan(profile, 2))
    assert {arm.name for arm in results.arms if arm.problem} == lost
    said = [arm.problem or "" for arm in results.arms if arm.name in lost]
    assert all(f"the weights of {missing}" in problem for problem in said)
    assert set(results.trails) == {arm.name for arm in results.ran}
    assert ("artifact-free area" in results.not_measured) == (missing == "looker")


def test_a_measure_without_its_model_is_left_out(profile, monkeypatch) -> None:
    World(missing=("report",)).patch(monkeypatch)
    results = benchmark(plan(profile, 3, ("one-shot", "best-of-n")))
    assert list(results.not_measured) == ["report"]
    assert figures.comparisons(results)


def test_nothing_to_run_is_an_error(profile, monkeypatch) -> None:
    World(missing=("painter",)).patch(monkeypatch)
    with pytest.raises(InvalidInput, match="no arm can run: one-shot: the weights of painter"):
        benchmark(plan(profile, 3))


def test_the_oracle_needs_a_judge_and_repairs_need_two_calls(world, profile) -> None:
    asked = plan(profile, 2, ("one-shot", "oracle", "inpainting"), budget=1)
    _, said = running.prepare(asked)
    problems = {arm.name: arm.problem for arm in said}
    assert "has no judge" in (problems["oracle"] or "")
    assert "2 generator calls" in (problems["inpainting"] or "")


def test_the_same_benchmark_again_calls_no_model(world, profile) -> None:
    asked = plan(profile, 2)
    first = benchmark(asked)
    calls = len(world.painter.seen), len(world.mender.seen), len(world.taste.seen)
    noise = 2 * min(2, 16)
    assert numbers(benchmark(asked)) == numbers(first)
    assert (len(world.painter.seen), len(world.mender.seen)) == calls[:2]
    assert len(world.taste.seen) <= calls[2] + noise


def test_more_prompts_keep_what_was_done(world, profile) -> None:
    benchmark(plan(profile, 4, ("one-shot",)))
    before = set(world.painter.seen)
    world.painter.seen.clear()
    benchmark(plan(profile, 8, ("one-shot",)))
    assert not before & set(world.painter.seen) and world.painter.seen


def test_results_do_not_depend_on_how_the_work_is_cut(world, profile, monkeypatch, tmp_path) -> None:
    whole = numbers(benchmark(plan(profile, 3)))
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "other"))
    monkeypatch.setattr(running, "SHARE", 2)
    World().patch(monkeypatch)
    assert numbers(benchmark(plan(profile, 3))) == whole


def test_unknown_arms_are_named() -> None:
    with pytest.raises(InvalidInput, match="no arm 'best'.*best-of-n"):
        arms.chosen(["best"])
    assert [one.name for one in arms.chosen(["regeneration", "one-shot"])] == ["one-shot", "regeneration"]


def test_batches_have_one_size_and_keep_the_order() -> None:
    painter = Painter()
    requests = [GenerationRequest(f"prompt {i}", i) for i in range(7)]
    images = Steady(painter, 4).generate(requests)
    assert painter.batches == [4, 4]
    for image, request in zip(images, requests, strict=True):
        assert np.array_equal(image, painter.generate([request])[0])


def test_a_trail_is_read_at_a_budget_of_calls_or_of_seconds() -> None:
    trail = Trail(
        (
            Stand("a", Spent(paint=1)),
            Stand("b", Spent(paint=2, diagnose=1)),
            Stand("c", Spent(paint=2, inpaint=1, diagnose=2)),
        )
    )
    assert [trail.within(calls).picture for calls in (1, 2, 3, 9)] == ["a", "b", "c", "c"]
    costs = {"paint": 1.0, "diagnose": 10.0, "inpaint": 1.0}
    assert [trail.within_seconds(s, costs).picture for s in (0.1, 1.0, 12.0, 23.0)] == ["a", "a", "b", "c"]
    assert trail.end.spent.calls == 3


def test_prices_are_means_over_all_parts() -> None:
    from flows.benchmark.trails import Timing

    parts = [{"paint": Timing(3.0, 2)}, {"paint": Timing(1.0, 2), "look": Timing(1.0, 1)}]
    assert prices(parts) == {"paint": 1.0, "look": 1.0}


def test_pictures_that_prompts_bring_along_are_repaired(world, profile, tmp_path) -> None:
    asked = with_pictures(plan(profile, 3, ("one-shot", "given", "given-inpainting")), tmp_path)
    results = benchmark(asked)
    assert [arm.name for arm in results.ran] == ["one-shot", "given", "given-inpainting"]
    at = final(results)
    before, after = (
        grid(results, name, "artifact-free area", at).mean() for name in ("given", "given-inpainting")
    )
    assert after > before
    for row, repaired in zip(results.trails["given"], results.trails["given-inpainting"], strict=True):
        assert row[0].end.spent.calls == 0
        assert repaired[0].stands[0].picture == row[0].end.picture
        assert repaired[0].within(3).spent.calls <= 3


def test_without_a_picture_for_each_prompt_nothing_is_repaired(world, profile, tmp_path) -> None:
    asked = with_pictures(plan(profile, 3, ("one-shot", "given")), tmp_path)
    one_less = (*asked.prompts[:2], replace(asked.prompts[2], image=""))
    _, said = running.prepare(replace(asked, prompts=one_less))
    assert "column 'image'" in (said[1].problem or "") and said[0].problem is None


def with_pictures(asked: running.Plan, folder: Path) -> running.Plan:
    """The plan, each prompt with a picture of two red squares."""
    path = folder / "given.png"
    Pillow.fromarray(picture(*SQUARES[:2])).save(path)
    return replace(asked, prompts=tuple(replace(prompt, image=str(path)) for prompt in asked.prompts))


def test_results_say_what_they_were_made_with(results) -> None:
    models = results.facts["models"]
    assert models["generator"]["name"] == "squares" and models["generator"]["batch"] == 4
    assert {"defender", "inpainter", "modifier", "measure report", "measure taste"} <= set(models)

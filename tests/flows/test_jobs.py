"""Jobs: ids, and values that survive a flow's parameters."""

from __future__ import annotations

import datetime
import json
import re

import pytest

from contracts.errors import InvalidInput
from flows.jobs.regeneration import Job, check_prompts, check_run_id, make_job, new_run_id, run_ids, slug
from flows.profiles.loading import Profile, load_profile

MOMENT = datetime.datetime(2026, 11, 21, 7, 15, 2, tzinfo=datetime.UTC)


def test_default_ids_are_short_sortable_readable_and_unique() -> None:
    ids = {new_run_id(["a red cone on a wooden table"], MOMENT) for _ in range(20)}
    assert all(re.fullmatch(r"20261121-071502-red-cone-[0-9a-f]{4}", name) for name in ids)
    assert len(ids) > 15
    later = new_run_id(["a ball"], MOMENT + datetime.timedelta(seconds=1))
    assert later > max(ids)
    assert "-batch-" in new_run_id(["a", "b"], MOMENT)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A Red cone", "red-cone"),
        ("円錐 🎈", "run"),
        ("über den Wolken", "uber-den"),
        ("the", "run"),
        ("x" * 90, "x" * 16),
    ],
)
def test_slugs_are_plain_letters(prompt, expected) -> None:
    assert slug(prompt) == expected
    check_run_id(new_run_id([prompt]))


def test_one_id_serves_a_whole_batch() -> None:
    assert run_ids("x", 1) == ["x"] and run_ids("x", 3) == ["x-1", "x-2", "x-3"]


@pytest.mark.parametrize("bad", ["", "../x", "a/b", ".hidden", "a b", "x" * 81, "é"])
def test_ids_that_are_no_folder_names_are_refused(bad) -> None:
    with pytest.raises(InvalidInput):
        check_run_id(bad)


def test_too_many_prompts_are_refused() -> None:
    with pytest.raises(InvalidInput, match="too many"):
        check_prompts(["a cone"] * 1025)


def test_a_job_takes_from_the_profile_what_was_not_said_and_survives_json() -> None:
    profile = load_profile("tabletop")
    job = make_job("tabletop", profile, ["a cone", "a ball"], "x", seed=7, rounds=5)
    assert (job.rounds, job.patience) == (5, profile.loop.patience)
    assert job.batch_size == profile.generator.batch_size
    assert {case.seed for case in job.cases} == {7}
    assert Job.from_parameters(json.loads(json.dumps(job.as_parameters()))) == job


def test_earlier_runs_are_asked_only_where_a_person_or_the_profile_says_so() -> None:
    profile = load_profile("tabletop")
    eager = profile.model_copy(update={"loop": profile.loop.model_copy(update={"memory": True})})

    def settings(chosen: Profile, memory: bool | None) -> bool:
        return make_job("tabletop", chosen, ["a cone"], "x", seed=7, memory=memory).settings().memory

    assert not settings(profile, None) and settings(profile, True)
    assert settings(eager, None) and not settings(eager, False)

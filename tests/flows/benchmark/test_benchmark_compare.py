"""Two stored benchmarks: what both have is paired, what differs is said, what only one has is left out."""

from __future__ import annotations

import numpy as np
import pytest
from made_results import SOUND, TASTE, made, noisy

from contracts.errors import InvalidInput
from flows.benchmark import comparing
from flows.benchmark.comparing import compare

ARMS = {"one-shot": 0.0, "best-of-n": 0.1, "regeneration": 0.3}
BETTER = {"one-shot": 0.0, "best-of-n": 0.1, "regeneration": 0.5}


def change(compared, arm: str, measure: str):
    return next(c for c in compared.changes if (c.arm, c.measure.name) == (arm, measure))


def test_what_a_loop_gains_is_found_and_what_stays_is_not() -> None:
    compared = compare(made(noisy(40, ARMS)), made(noisy(40, BETTER)))
    gained = change(compared, "regeneration", "report")
    assert gained.difference.low > 0.19 and gained.difference.high < 0.21
    assert gained.lead.mean == pytest.approx(0.2, abs=0.01)
    assert gained.p_holm < 0.01 and gained.outcomes.win == 1
    same = change(compared, "one-shot", "report")
    assert same.difference.mean == 0 and same.p == 1 and same.outcomes.tie == 1
    assert change(compared, "best-of-n", "report").lead is None
    assert "Regeneration does better in the second" in comparing.verdict(compared)
    assert compared.same_seeds and not compared.facts and not compared.left_out


def test_the_other_way_round_has_the_other_sign() -> None:
    first, second = made(noisy(40, ARMS)), made(noisy(40, BETTER))
    there, back = (
        change(compare(a, b), "regeneration", "report") for a, b in ((first, second), (second, first))
    )
    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert "does worse" in comparing.verdict(compare(second, first))


def test_prompts_are_paired_by_their_words_whatever_their_order_and_number() -> None:
    values = noisy(6, {"one-shot": 0.0})
    turned = {"one-shot": {name: grid[::-1] for name, grid in values["one-shot"].items()}}
    texts = [f"wall {p}" for p in range(6)]
    more = {"one-shot": {n: np.vstack([[[9.0]], g]) for n, g in turned["one-shot"].items()}}
    compared = compare(made(values, texts=texts), made(more, texts=["another", *texts[::-1]]))
    assert [prompt.text for prompt in compared.second.prompts] == texts
    assert all(change.difference.mean == 0 for change in compared.changes)


def test_the_smaller_number_of_repeats_is_compared() -> None:
    many = noisy(5, {"one-shot": 0.0}, repeats=3)
    one = {"one-shot": {name: grid[:, :1] for name, grid in many["one-shot"].items()}}
    compared = compare(made(many), made(one, seed=2))
    assert compared.first.facts["seeds"] == 1 and not compared.same_seeds
    assert all(change.difference.mean == 0 for change in compared.changes)
    assert "the seeds differ" in comparing.title(compared)


def test_what_only_one_has_or_another_scorer_took_is_left_out_and_said() -> None:
    first = made(
        noisy(5, ARMS), profile="a", models={"measure report": {"digest": "x"}, "generator": {"steps": 1}}
    )
    second = made(
        noisy(5, {"one-shot": 0.0, "suffix": 0.1}),
        profile="b",
        models={"measure report": {"digest": "y"}, "generator": {"steps": 1}},
    )
    compared = compare(first, second)
    assert {c.arm for c in compared.changes} == {"one-shot"}
    assert {c.measure.name for c in compared.changes} == {"sound", "taste"}
    assert set(compared.left_out) == {"best-of-n", "regeneration", "suffix", "report"}
    assert compared.left_out["report"] == "another scorer took it in the second"
    assert compared.facts == {
        "profile": ("a", "b"),
        "model: measure report": ({"digest": "x"}, {"digest": "y"}),
    }
    page = comparing.markdown(compared, "A", "B")
    assert "Measured differently" in page and "Not compared" in page and "`A`" in page


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (made(noisy(2, {"one-shot": 0.0}), texts=["x", "y"]), "share no prompt"),
        (made(noisy(2, {"suffix": 0.0})), "share no arm"),
        (made(noisy(2, {"one-shot": 0.0}), measures=(TASTE,)), "share no measure"),
    ],
)
def test_nothing_in_common_is_an_error(other, message) -> None:
    with pytest.raises(InvalidInput, match=message):
        compare(made(noisy(2, {"one-shot": 0.0}), measures=(SOUND,)), other)

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput, ModelError
from contracts.records import CATEGORIES, Diagnosis, Finding, Round, Score, Verdict
from controller import gate
from controller.gate import GateSettings, compare, judge, severity

SETTINGS = GateSettings("taste", rounds=3, patience=2, score_tolerance=0.01)


def finding(cells: int, confidence: float = 1.0, category="physics") -> Finding:
    mask = np.zeros((10, 10), bool)
    mask.flat[:cells] = True
    return Finding(mask, "the shadow", "it points to the light", category, confidence)


def scored(
    index: int, *findings: Finding, value: float = 0.5, name="taste", version="1", verdict=None
) -> Round:
    scores = (Score("report", "1", 0.0), Score(name, version, value))
    return Round(index, "p", 1, "d", Diagnosis(findings), scores, verdict)


def accepted(index: int, *findings: Finding, **values) -> Round:
    return scored(index, *findings, verdict=Verdict(True, ""), **values)


def rejected(index: int, *findings: Finding, **values) -> Round:
    return scored(index, *findings, verdict=Verdict(False, ""), **values)


findings = st.lists(
    st.builds(finding, st.integers(0, 100), st.floats(0, 1), st.sampled_from(CATEGORIES)), max_size=4
).map(tuple)
values = st.floats(-1, 1)
settings = st.builds(GateSettings, st.just("taste"), st.integers(1, 5), st.integers(1, 4), st.floats(0, 0.5))


def test_severity_is_confidence_times_extent_summed():
    assert severity(Diagnosis((finding(25, 0.5), finding(16, 1.0)))) == pytest.approx(0.25 + 0.40)
    assert severity(Diagnosis((finding(0, 0.5),))) == severity(Diagnosis(())) == 0


def test_a_large_doubt_is_less_than_a_small_certainty():
    ok, _ = compare(scored(2, finding(27, 0.18)), accepted(1, finding(4, 1.0)), SETTINGS)
    assert ok


@given(findings, values, settings)
def test_the_first_round_is_the_baseline_whatever_it_is(found, value, rules):
    verdict = judge(scored(1, *found, value=value), [], rules)
    assert verdict.accepted
    assert (verdict.stop == gate.NO_ARTIFACTS) == (not found)


@given(findings, findings, values, values, settings)
def test_what_is_accepted_is_never_worse(before, after, old, new, rules):
    candidate = scored(2, *after, value=new)
    ok, reason = compare(candidate, accepted(1, *before, value=old), rules)
    smaller = not after or severity(Diagnosis(after)) < severity(Diagnosis(before))
    assert ok == (smaller and new >= old - rules.score_tolerance)
    assert ok == reason.startswith("better") and f"{new:.4f}" in reason and f"{old:.4f}" in reason


@given(findings, values)
def test_the_same_again_is_no_improvement(found, value):
    ok, _ = compare(scored(2, *found, value=value), accepted(1, *found, value=value), SETTINGS)
    assert ok == (not found)


@given(findings, values, st.floats(0, 0.4), st.floats(0, 0.4))
def test_more_tolerance_never_turns_an_acceptance_into_a_rejection(found, value, one, two):
    small, large = sorted((one, two))
    best = accepted(1, finding(100), finding(100), value=0.2)
    strict, _ = compare(scored(2, *found, value=value), best, GateSettings("taste", score_tolerance=small))
    loose, _ = compare(scored(2, *found, value=value), best, GateSettings("taste", score_tolerance=large))
    assert loose or not strict


@given(st.lists(st.tuples(findings, values), min_size=1, max_size=8), settings)
def test_over_a_whole_run_severity_falls_and_the_run_ends_where_it_should(script, rules):
    rounds: list[Round] = []
    for index, (found, value) in enumerate(script, start=1):
        verdict = judge(scored(index, *found, value=value), rounds, rules)
        rounds.append(scored(index, *found, value=value, verdict=verdict))
        if verdict.stop:
            break
    assert len(rounds) <= rules.rounds
    kept = [r for r in rounds if r.verdict.accepted]
    falls = [severity(r.diagnosis) for r in kept]
    assert falls == sorted(falls, reverse=True) and kept[0].index == 1
    if len(rounds) == rules.rounds:
        assert rounds[-1].verdict.stop is not None


def test_a_rejection_says_why_with_numbers():
    verdict = judge(scored(2, finding(20), value=0.3), [accepted(1, finding(10))], SETTINGS)
    assert not verdict.accepted
    assert "severity 0.447 after 0.316" in verdict.reason
    assert "0.3000 after 0.5000" in verdict.reason and "0.01" in verdict.reason


def test_a_fall_within_the_tolerance_is_accepted_and_one_beyond_it_is_not():
    best = accepted(1, finding(10), value=0.5)
    assert compare(scored(2, finding(5), value=0.49), best, SETTINGS)[0]
    assert not compare(scored(2, finding(5), value=0.4899), best, SETTINGS)[0]


def test_a_candidate_is_compared_with_the_last_accepted_round():
    rounds = [accepted(1, finding(50)), accepted(2, finding(10)), rejected(3, finding(40))]
    verdict = judge(scored(4, finding(20)), rounds, GateSettings("taste", rounds=9, patience=9))
    assert not verdict.accepted


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        (Round(2, "p", 1, "d", Diagnosis(()), None), "0 scores called 'taste'"),
        (Round(2, "p", 1, "d", Diagnosis(()), ()), "0 scores called 'taste'"),
        (scored(2, name="beauty"), "0 scores called 'taste'"),
        (Round(2, "p", 1, "d", Diagnosis(()), (Score("taste", "1", 1.0),) * 2), "2 scores"),
        (scored(2, value=math.nan), "nan"),
        (scored(2, value=math.inf), "inf"),
        (scored(2, version="2"), r"by version \[1\] and by version \[2\] cannot be compared"),
        (Round(2, "p", 1, "d", None, (Score("taste", "1", 1.0),)), "no diagnosis"),
        (scored(2, finding(1, math.nan)), "confidence nan"),
        (scored(2, finding(1, -1.0)), "confidence -1.0"),
    ],
)
def test_what_is_missing_or_unusable_is_an_error_and_never_an_acceptance(candidate, message):
    with pytest.raises(ModelError, match=message):
        judge(candidate, [accepted(1, finding(50))], SETTINGS)


def test_a_run_stops_clean_at_its_limit_or_on_a_plateau():
    first, worse = accepted(1, finding(10)), rejected(2, finding(20))
    assert judge(scored(2), [first], SETTINGS).stop == gate.NO_ARTIFACTS
    assert judge(scored(2, finding(20)), [first], SETTINGS).stop is None
    assert judge(scored(3, finding(1)), [first, worse], SETTINGS).stop == gate.ROUND_LIMIT
    longer = GateSettings("taste", rounds=9, patience=2)
    assert judge(scored(3, finding(20)), [first, worse], longer).stop == gate.PLATEAU
    assert judge(scored(3, finding(1)), [first, worse], longer).stop is None


def test_a_clean_picture_that_is_rolled_back_does_not_end_the_run():
    verdict = judge(scored(2, value=0.1), [accepted(1, finding(10))], SETTINGS)
    assert not verdict.accepted and verdict.stop is None


@pytest.mark.parametrize(
    "values", [{"rounds": 0}, {"patience": 0}, {"score_tolerance": -1}, {"score_tolerance": math.nan}]
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(InvalidInput):
        GateSettings("taste", **values)

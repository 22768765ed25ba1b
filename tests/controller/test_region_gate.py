from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from region_samples import finding, rectangle, rectangles

from contracts.errors import InvalidInput, ModelError
from contracts.records import CATEGORIES, Diagnosis, Score
from controller import masks, region_gate
from controller.region_gate import (
    Attempt,
    Look,
    MeasuredGate,
    OpenGate,
    RegionGateSettings,
    given_up,
    judge_region,
    known,
    severity_in,
    tries_of,
)
from controller.regions import PaintingSize, RegionSettings, plan_regions

SHAPE = (60, 60)
RULES = RegionGateSettings("taste", score_tolerance=0.01, max_seam=10)
FLAW = finding(rectangle(SHAPE, 20, 20, 30, 30))
FAR = finding(rectangle(SHAPE, 50, 50, 58, 58), phrase="elsewhere")
FIRST = Score("taste", "1", 0.5)
(REGION,) = plan_regions([FLAW], SHAPE, RegionSettings(), PaintingSize(32, 32)).regions


def look(*found, value=0.5, seam=0.0, outside="d", name="taste", version="1"):
    return Look(Diagnosis(found), Score(name, version, value), seam, outside)


def judge(after, before=None, rules=RULES, original=FIRST):
    return judge_region(REGION, before or look(FLAW, FAR), after, original, rules)


def test_a_repair_after_which_nothing_is_found_stays():
    verdict = judge(look(FAR))
    assert verdict.accepted and verdict.reason.startswith("repaired: nothing is found there")


# --- one rule each: alone, it rolls back --------------------------------------------------------------


@pytest.mark.parametrize(("columns", "accepted"), [(5, True), (6, False), (10, False)])
def test_what_is_left_of_the_flaw_must_be_clearly_smaller(columns, accepted):
    rest = finding(rectangle(SHAPE, 20, 20, 20 + columns, 30))
    verdict = judge(look(rest, FAR))
    assert verdict.accepted == accepted
    assert accepted or "still found" in verdict.reason


def test_less_confidence_makes_a_flaw_smaller_too():
    assert judge(look(finding(FLAW.mask, 0.4), FAR)).accepted
    assert not judge(look(finding(FLAW.mask, 0.5), FAR)).accepted


def test_only_what_lies_in_the_support_counts_as_the_flaw():
    both = Diagnosis((FLAW, FAR))
    assert severity_in(both, REGION.support) == pytest.approx(0.9 * 100 / 3600)
    worse_elsewhere = finding(rectangle(SHAPE, 45, 45, 60, 60))
    assert judge(look(worse_elsewhere)).accepted


@pytest.mark.parametrize("box", [(30, 20, 33, 22), (18, 17, 22, 20)])
def test_something_new_beside_the_region_rolls_back(box):
    verdict = judge(look(finding(rectangle(SHAPE, *box)), FAR))
    assert not verdict.accepted and "something new" in verdict.reason


@pytest.mark.parametrize("box", [(32, 20, 34, 22), (12, 12, 21, 21)])
def test_what_lies_mostly_on_pixels_that_did_not_change_was_there_before(box):
    unseen = look(finding(rectangle(SHAPE, *box)), FAR)
    verdict = judge(unseen)
    assert verdict.accepted and verdict.reason.endswith("; seen only now: physics")
    strict = judge(unseen, rules=replace(RULES, caused=0.0))
    assert not strict.accepted and "something new" in strict.reason


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("box", [(10, 10, 40, 40), (0, 0, 60, 60)])
def test_what_covers_the_place_of_the_flaw_rolls_back_however_large_it_is(category, box):
    over_it = finding(rectangle(SHAPE, *box), category=category)
    verdict = judge(look(over_it, FAR))
    assert not verdict.accepted and "still found" in verdict.reason


def test_a_flaw_seen_before_is_answered_for_wherever_it_lies():
    beside = finding(rectangle(SHAPE, 33, 20, 36, 30))
    grown = finding(rectangle(SHAPE, 32, 18, 37, 33))
    assert not judge(look(grown), look(FLAW, beside)).accepted


def test_something_new_far_away_is_not_this_repairs_doing():
    assert judge(look(FAR, finding(rectangle(SHAPE, 0, 50, 5, 55)))).accepted


def test_a_flaw_that_moved_beside_its_place_is_not_repaired():
    neighbor = finding(rectangle(SHAPE, 32, 20, 34, 30))
    grown = finding(rectangle(SHAPE, 32, 10, 34, 40))
    verdict = judge(look(grown), look(FLAW, neighbor))
    assert not verdict.accepted and "around it grew" in verdict.reason
    assert judge(look(neighbor), look(FLAW, neighbor)).accepted


@pytest.mark.parametrize(("value", "accepted"), [(0.6, True), (0.495, True), (0.48, False)])
def test_the_score_may_not_fall_beyond_the_tolerance(value, accepted):
    verdict = judge(look(value=value))
    assert verdict.accepted == accepted
    assert accepted or "taste fell to 0.4800 from 0.5000" in verdict.reason


def test_repairs_that_each_cost_a_little_cost_no_more_together_than_one_may():
    """As the loop asks: each repair is compared with the picture that the one before left."""
    standing, accepted = 0.5, 0
    for _ in range(10):
        verdict = judge(look(value=standing - 0.004), look(FLAW, FAR, value=standing))
        if verdict.accepted:
            standing, accepted = standing - 0.004, accepted + 1
    assert accepted == 2 and standing >= 0.5 - RULES.score_tolerance
    assert verdict.reason == "rolled back: taste fell to 0.4880 from 0.5000 of the picture as it came"


def test_what_earlier_repairs_gained_may_not_be_lost_by_one():
    assert not judge(look(value=0.68), look(FLAW, FAR, value=0.7)).accepted
    assert judge(look(value=0.695), look(FLAW, FAR, value=0.7)).accepted


@pytest.mark.parametrize(
    ("was", "now", "accepted"), [(0, 10, True), (0, 11, False), (30, 39, True), (-20, 10, True)]
)
def test_a_seam_may_not_show_but_an_outline_that_was_there_may(was, now, accepted):
    verdict = judge(look(seam=now), look(FLAW, seam=was))
    assert verdict.accepted == accepted
    assert accepted or "its edge shows" in verdict.reason


def test_a_pixel_changed_outside_rolls_back():
    verdict = judge(look(outside="e"))
    assert not verdict.accepted and "outside the region changed" in verdict.reason


# Made for one rule each: it alone stands against the repair.
BROKEN = {
    "_outside_changed": (look(FLAW, FAR), look(FAR, outside="e")),
    "_still_there": (look(FLAW, FAR), look(FLAW, FAR)),
    "_new_nearby": (look(FLAW, FAR), look(FAR, finding(rectangle(SHAPE, 30, 20, 33, 22)))),
    "_score_worse": (look(FLAW, FAR), look(FAR, value=0.4)),
    "_seam_shows": (look(FLAW, FAR), look(FAR, seam=11.0)),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_each_rule_stands_alone_against_a_repair_that_breaks_it(monkeypatch, rule):
    before, after = BROKEN[rule]
    assert not judge(after, before).accepted
    monkeypatch.setattr(region_gate, rule, lambda *_: None)
    assert judge(after, before).accepted, "or this case would not notice if the rule went missing"


def test_every_rule_of_the_gate_has_such_a_case():
    named = {name for name in judge_region.__code__.co_names if name.startswith("_")}
    assert set(BROKEN) == named - {"_complete", "_usable", "_change", "_there_before", "_without"}


# --- closed in doubt ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing",
    [
        {"diagnosis": None},
        {"score": None},
        {"score": Score("other", "1", 0.9)},
        {"score": Score("taste", "2", 0.9)},
        {"score": Score("taste", "1", float("nan"))},
        {"seam": None},
        {"seam": float("nan")},
        {"outside": None},
        {"outside": ""},
    ],
)
@pytest.mark.parametrize("which", ["before", "after"])
def test_a_missing_measurement_is_an_error_and_never_an_acceptance(missing, which):
    looks = {"before": look(FLAW), "after": look()}
    looks[which] = replace(looks[which], **missing)
    with pytest.raises(ModelError):
        judge_region(REGION, looks["before"], looks["after"], FIRST, RULES)


@pytest.mark.parametrize(
    "score",
    [None, Score("other", "1", 0.5), Score("taste", "2", 0.5), Score("taste", "1", float("nan"))],
)
def test_without_the_score_of_the_picture_as_it_came_nothing_is_accepted(score):
    with pytest.raises(ModelError):
        judge(look(), original=score)


def test_a_score_that_does_not_select_does_not_judge():
    with pytest.raises(ModelError, match="no score called 'taste'"):
        judge_region(REGION, look(FLAW, name="other"), look(name="other"), FIRST, RULES)


def test_an_unusable_confidence_is_an_error():
    with pytest.raises(ModelError, match="confidence nan"):
        judge(look(finding(FLAW.mask, float("nan"))))


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    st.lists(st.builds(finding, rectangles(SHAPE), st.floats(0, 1)), max_size=3),
    st.floats(0, 1),
    st.floats(-50, 50),
    st.sampled_from(["d", "e"]),
)
def test_what_stays_is_never_worse(found, value, seam, outside):
    verdict = judge(look(*found, value=value, seam=seam, outside=outside))
    if verdict.accepted:
        was, now = (severity_in(Diagnosis(tuple(f)), REGION.support) for f in ([FLAW, FAR], found))
        assert now <= was / 2 and value >= 0.49 and seam <= 10 and outside == "d"
        # What lies mostly on unchanged pixels is not the repair's.
        own = [f for f in found if masks.inside(f.mask, REGION.support) >= RULES.caused]
        assert all(known(f, [FLAW, FAR]) for f in own)


# --- tries --------------------------------------------------------------------------------------------


def attempt(*box, accepted=False, index=1):
    return Attempt(rectangle(SHAPE, *box), accepted, "", index)


def test_a_region_is_given_up_after_two_tries_wherever_it_wandered_a_little():
    first, moved, other = attempt(10, 10, 20, 20), attempt(13, 11, 23, 21, index=2), attempt(40, 40, 50, 50)
    assert given_up([first, other], 2) == []
    assert len(given_up([first, moved, other], 2)) == 2
    assert tries_of(rectangle(SHAPE, 11, 10, 21, 20), [first, moved, other]) == 2


def test_a_flaw_that_comes_back_after_accepted_repairs_is_given_up_too():
    tries = [attempt(10, 10, 20, 20, accepted=True), attempt(10, 10, 20, 20, accepted=True, index=2)]
    made = plan_regions(
        [finding(tries[0].core)],
        SHAPE,
        RegionSettings(),
        PaintingSize(32, 32),
        given_up=given_up(tries, 2),
    )
    assert not made.regions and made.left_out[0].reason == "given up after earlier tries"


def test_the_number_of_tries_is_a_setting():
    one = [attempt(10, 10, 20, 20)]
    twice = [*one, attempt(10, 10, 20, 20, index=2)]
    assert len(given_up(one, 1)) == 1
    assert given_up(twice, 3) == [] and len(given_up(twice, 2)) == 2


def test_regions_that_overlap_in_one_round_are_one_try_each():
    assert given_up([attempt(10, 10, 20, 20), attempt(10, 11, 20, 20)], 2) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"score_tolerance": -1},
        {"min_reduction": 0},
        {"min_reduction": 1.5},
        {"max_seam": float("nan")},
        {"nearby": -0.1},
        {"nearby_slack": float("inf")},
        {"caused": 1.5},
        {"caused": -0.1},
    ],
)
def test_settings_that_make_no_gate_are_refused(wrong):
    with pytest.raises(InvalidInput, match="choose"):
        RegionGateSettings("taste", **wrong)


def test_an_area_a_person_drew_without_a_finding_must_stay_free_of_findings():
    (region,) = plan_regions(
        [], SHAPE, RegionSettings(), PaintingSize(32, 32), user_mask=rectangle(SHAPE, 20, 20, 30, 30)
    ).regions
    assert judge_region(region, look(), look(), FIRST, RULES).accepted
    assert not judge_region(region, look(), look(FLAW), FIRST, RULES).accepted
    assert np.array_equal(region.core, FLAW.mask)


def test_a_flaw_of_another_kind_in_its_place_is_new():
    smear = finding(rectangle(SHAPE, 20, 20, 22, 22), 0.9, category="distortion")
    verdict = judge(look(smear, FAR))
    assert not verdict.accepted and "something new was found there (distortion" in verdict.reason
    assert judge(look(finding(smear.mask, 0.9), FAR)).accepted


def test_the_measured_gate_is_judge_region_and_the_open_one_no_gate_at_all():
    before, after = look(FLAW, FAR), look(FLAW, FAR)
    verdict = judge_region(REGION, before, after, FIRST, RULES)
    assert MeasuredGate(RULES).judge(REGION, before, after, FIRST) == verdict
    assert OpenGate().judge(REGION, before, after, FIRST).accepted
    assert MeasuredGate(RULES).describe() == {"name": "measured", **vars(RULES)}
    assert OpenGate().describe() == {"name": "open"}

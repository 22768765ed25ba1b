"""The measures of the inpainting benchmark, on pictures whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.repair_measures import (
    IDENTICAL,
    VISIBLE,
    Artifact,
    Damage,
    Kept,
    Outcome,
    Truth,
    UpstreamWords,
    Word,
    apart,
    changed_outside,
    damage,
    outcome,
    overlap,
    psnr,
    ssim,
)
from contracts.intervals import Interval
from contracts.records import Diagnosis, Finding, RegionPlan, Repair, RevisionRequest, Round, Run
from tabletop.flaws import Pair, render_pair

SHAPE = (24, 32)
NOISE = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3)).astype(np.uint8)


def box(left, top, right, bottom, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[top:bottom, left:right] = True
    return mask


def finding(mask, category="structure", explanation="the cone is bent"):
    return Finding(mask, "the cone", explanation, category, 0.9)


# --- closeness ----------------------------------------------------------------------------------------


def test_psnr_counts_the_pixels_of_the_mask_alone():
    inside = box(4, 4, 12, 12)
    dark, light = np.zeros((*SHAPE, 3), np.uint8), np.zeros((*SHAPE, 3), np.uint8)
    light[inside] = 51
    assert psnr(light, dark, inside) == pytest.approx(20 * np.log10(255 / 51))
    assert psnr(light, dark, ~inside) == IDENTICAL


def test_ssim_is_one_for_equals_and_falls_with_damage():
    where = box(0, 0, 32, 24)
    worse = np.clip(NOISE.astype(int) + 40, 0, 255).astype(np.uint8)
    assert ssim(NOISE, NOISE, where) == pytest.approx(1)
    assert ssim(NOISE[::-1], NOISE, where) < ssim(worse, NOISE, where) < 1


def test_ssim_of_flat_pictures_is_the_formulas_first_factor():
    a, b = (np.full((*SHAPE, 3), level, np.uint8) for level in (100, 150))
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c1) / (100**2 + 150**2 + c1)
    assert ssim(a, b, box(0, 0, 3, 3)) == pytest.approx(expected)


def test_ssim_counts_the_mask_alone():
    damaged = NOISE.copy()
    damaged[:, :4] = 0
    assert ssim(damaged, NOISE, box(20, 0, 32, 24)) == pytest.approx(1)
    assert ssim(damaged, NOISE, box(0, 0, 4, 24)) < 0.5


# --- aims and words -----------------------------------------------------------------------------------


def test_the_truth_is_repaired_first_whole_and_then_where_it_is_still_found():
    here, there = finding(box(1, 1, 8, 8)), finding(box(20, 10, 30, 20))
    seen = Diagnosis((finding(box(2, 2, 8, 8)),))
    aim = Truth({"run": (here, there)})
    assert list(aim.findings("run", 1, Diagnosis(()))) == [here, there]
    assert list(aim.findings("run", 2, seen)) == [here]
    assert list(replace(aim, every_round=True).findings("run", 2, seen)) == [here, there]
    assert list(aim.findings("other", 1, seen)) == []


def test_upstreams_words_name_the_flaw():
    request = RevisionRequest("a red cone", "a red cone", (finding(box(0, 0, 2, 2)),))
    flawed, plain = UpstreamWords().revise([request, replace(request, findings=())])
    assert flawed.prompt.startswith("Try to avoid the problem: the cone is bent And make every effort")
    assert plain.prompt == "a red cone"


# --- outcomes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        ((True, True), (False, False), True),
        ((False, True), (False, False), True),
        ((True, True), (True, False), False),
        ((True, True), (False, True), False),
        ((False, False), (False, False), False),
    ],
)
def test_gone_means_seen_once_and_by_nobody_now(before, after, gone):
    assert Artifact("physics", "floating", *before, *after).gone is gone


def test_overlap_is_a_tenth_of_both_or_half_of_one():
    large = box(0, 0, 20, 20)
    assert overlap(box(0, 0, 2, 2), large) and overlap(large, box(0, 0, 2, 2))
    assert not overlap(box(19, 19, 32, 24), large)


def sound():
    none, kept = Damage(0, 0, 0.0), Kept(True, 20, 25, 0.5, 0.9)
    return Outcome(1, (), (kept,), 0.1, 0.9, True, True, False, False, (0,), (0,), none, none, 4)


@pytest.mark.parametrize(
    ("changes", "spoiled"),
    [
        ({}, False),
        ({"right_after": False}, True),
        ({"right_before": False, "right_after": False}, False),
        ({"kept": (Kept(False, 99, 25, 1, 0.9),)}, True),
        # What was not as it should be, though nothing was injected just there, and is nearer now.
        ({"kept": (Kept(False, 21, 25, 0.7, 0.9),)}, False),
    ],
)
def test_what_counts_as_broken(changes, spoiled):
    got = replace(sound(), **changes)
    assert got.sound_spoiled == got.flawed_broken == spoiled
    flawed_anew = replace(got, new_flaw=True)
    assert flawed_anew.flawed_broken and flawed_anew.sound_spoiled == spoiled


class Shelf(dict):
    """Pictures by name."""

    def run(self, *results, support, accepted=True):
        plan = RegionPlan((), support, np.where(support, 255, 0).astype(np.uint8), (0, 0, 8, 8), (8, 8), 1.0)
        rounds = []
        for index, result in enumerate(results, start=1):
            self[f"{len(self)}"] = result
            name = f"{len(self) - 1}"
            repair = Repair(plan, accepted=accepted, chosen=1, picture=name if accepted else None)
            rounds.append(Round(index, "", 0, image=name, repairs=(repair,), result=name))
        return Run("run", "inpainting", "", 0, {}, "finished", "", tuple(rounds))


def test_every_round_is_compared_with_the_original_outside_all_supports_so_far():
    shelf, inside = Shelf(), box(0, 0, 8, 8)
    kept, leaked = NOISE.copy(), NOISE.copy()
    kept[inside] ^= 255
    leaked[23, 31, 0] ^= 1
    run = shelf.run(kept, leaked, support=inside)
    assert changed_outside(run, NOISE, shelf.__getitem__) == (0, 1)


def test_damage_is_what_kept_repairs_did_to_pixels_that_were_sound():
    shelf, inside = Shelf(), box(0, 0, 8, 8)
    clean = np.full((*SHAPE, 3), 100, np.uint8)
    flawed, result = clean.copy(), clean.copy()
    flawed[:4, :8] = 200  # half of what is repaired
    result[4, :8] = 100 + VISIBLE + 2  # eight sound pixels, clearly
    result[5, :8, 0] = 103  # eight others, hardly
    result[20, 20] = 0  # no repair's doing
    run = shelf.run(result, support=inside)
    found = damage(run, flawed, clean, shelf.__getitem__)
    assert (found.pixels, found.changed) == (32, 8)
    assert found.levels == pytest.approx(8 * (VISIBLE + 2) + 8 * 1)
    rolled_back = shelf.run(result, support=inside, accepted=False)
    assert damage(rolled_back, flawed, clean, shelf.__getitem__) == Damage(0, 0, 0.0)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [((0.1, 0.2), (0.3, 0.4), True), ((0.3, 0.4), (0.1, 0.2), True), ((0.1, 0.3), (0.3, 0.4), False)],
)
def test_intervals_are_apart_if_no_value_lies_in_both(one, other, expected):
    assert apart(Interval(0, *one), Interval(0, *other)) is expected


def word(flaws, *found, right=True):
    return Word(np.array(flaws, np.float32), right, Diagnosis(tuple(found)))


def flawed_pair():
    pair = next(p for p in map(render_pair, range(10_950_000, 10_950_040)) if p.flags == (False, True, False))
    return pair, pair.findings[0]


def outcome_of(pair: Pair, after: Word, picture=None, clean=None):
    shelf, support = Shelf(), pair.findings[0].mask
    flawed = shelf.run(pair.clean if picture is None else picture, support=support)
    untouched = shelf.run(pair.clean if clean is None else clean, support=support, accepted=False)
    before = word((0, 0.9, 0), pair.findings[0])
    return outcome(pair, 5, flawed, untouched, before, after, shelf.__getitem__)


def test_a_perfect_repair():
    pair, _ = flawed_pair()
    got = outcome_of(pair, word((0, 0.1, 0)))
    assert [a.gone for a in got.artifacts] == [True] and not got.flawed_broken and not got.clean_changed
    (kept,) = got.kept
    assert kept.psnr_after == IDENTICAL > kept.psnr_before and kept.ssim_after > kept.ssim_before
    assert (got.score_before, got.score_after) == (pytest.approx(0.1), pytest.approx(0.9))
    assert got.changed_outside[0] > 0, "the flaw reaches past the support in this made-up run"


def test_a_flaw_of_a_kind_that_was_not_there_is_no_repair():
    pair, flaw = flawed_pair()
    smeared = replace(flaw, category="distortion")
    assert not outcome_of(pair, word((0, 0.1, 0), smeared)).artifacts[0].gone
    assert not outcome_of(pair, word((0, 0.6, 0))).artifacts[0].gone
    assert outcome_of(pair, word((0, 0.1, 0.8))).new_flaw
    assert not outcome_of(pair, word((0, 0.8, 0))).new_flaw


def test_one_changed_pixel_of_a_clean_render_counts():
    pair, _ = flawed_pair()
    changed = pair.clean.copy()
    changed[0, 0, 0] ^= 1
    assert outcome_of(pair, word((0, 0.1, 0)), clean=changed).clean_changed

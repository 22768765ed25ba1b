"""The inpainting loop against a world of known truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from counting import Counting
from inpainting_samples import CASES, SHAPE, bank_at, contents, differing, inpainting_tools, settings
from red_squares import GRAY, SIDE, GrayPainter, GrayTaste, SquareDefender, flawed, picture
from region_samples import rectangle

from contracts.errors import InvalidInput, ModelError, SettingsChanged
from contracts.records import Diagnosis, Revision, Score, Usage
from controller.compositing import outside_digest
from controller.gate import NO_ARTIFACTS, ROUND_LIMIT
from controller.inpainting import (
    MASK_DONE,
    NOTHING_TO_TRY,
    STEPS,
    InpaintingCase,
    inpaint,
    preview,
    scene_of,
    source_map,
)
from controller.region_gate import MeasuredGate, OpenGate, RegionGateSettings
from controller.steps import RoundFinished, RunFinished, StepFinished, StepStarted


@pytest.fixture
def bank(tmp_path):
    return bank_at(tmp_path)


def one(bank, case=CASES[0], tools=None, **changes):
    return inpaint([case], tools or inpainting_tools(), bank, settings(**changes))[0]


def repairs_of(run):
    return [repair for item in run.rounds for repair in item.repairs]


# --- what a person gets -------------------------------------------------------------------------------


def test_flaws_are_repaired_and_nothing_else_is_touched(bank):
    run = one(bank, tools=inpainting_tools(inpainter=GrayPainter(failures=0)))
    result = bank.image(run.result)
    assert not flawed(result).any()
    assert run.rounds[-1].verdict.stop == NO_ARTIFACTS and run.status == "finished"
    assert not (differing(result, CASES[0].image) & ~run.support).any()
    assert run.support.sum() < 0.2 * run.support.size


def test_a_picture_in_which_nothing_is_found_stays_as_it_is(bank):
    tools = inpainting_tools()
    run = one(bank, CASES[2], tools)
    assert np.array_equal(bank.image(run.result), CASES[2].image)
    assert tools.inpainter.seen == [] and run.support is None and run.best is None
    assert [r.verdict.stop for r in run.rounds] == [NO_ARTIFACTS]


def test_repairs_that_do_not_help_are_rolled_back_to_the_last_bit(bank):
    run = one(bank, tools=inpainting_tools(inpainter=GrayPainter(failures=256)))
    assert np.array_equal(bank.image(run.result), CASES[0].image)
    assert all("still found" in c.reason for repair in repairs_of(run) for c in repair.candidates)
    assert all(not repair.accepted and repair.picture is None for repair in repairs_of(run))


def test_a_region_is_given_up_after_its_tries(bank):
    tools = inpainting_tools(inpainter=GrayPainter(failures=256))
    run = one(bank, tools=tools, rounds=9, tries=2)
    assert len(run.rounds) == 2 and run.rounds[-1].verdict.stop == NOTHING_TO_TRY
    assert "given up after earlier tries" in run.rounds[-1].verdict.reason
    again = one(bank, replace(CASES[0], run_id="other"), tools, rounds=9, tries=3)
    assert len(again.rounds) == 3


def test_rounds_are_limited(bank):
    run = one(bank, tools=inpainting_tools(inpainter=GrayPainter(failures=256)), rounds=1)
    assert [r.verdict.stop for r in run.rounds] == [ROUND_LIMIT]


def test_what_a_round_leaves_the_next_begins_with(bank):
    run = one(bank, CASES[3], inpainting_tools(inpainter=GrayPainter(failures=200)), rounds=4, tries=4)
    assert len(run.rounds) > 1
    for before, after in zip(run.rounds, run.rounds[1:], strict=False):
        assert after.image == before.result
    for item in run.rounds:
        defender = SquareDefender()
        (seen,) = defender.diagnose([bank.image(item.image)])
        assert [f.box for f in seen.findings] == [f.box for f in item.diagnosis.findings]
        assert item.scores == tuple(
            GrayTaste(n).score([bank.image(item.image)], [""])[0] for n in ("taste", "report")
        )


# --- no pixel outside ---------------------------------------------------------------------------------


class Restless(SquareDefender):
    """Always finds something, each time elsewhere."""

    def diagnose(self, images):
        self.count([image.tobytes() for image in images])
        return [Diagnosis(tuple(map(self._finding, self._places(image)))) for image in images]

    def _places(self, image):
        rng = np.random.default_rng(int(image.astype(np.int64).sum()))
        for left, top in rng.integers(0, SIDE - 8, (2, 2)).tolist():
            yield rectangle(SHAPE, left, top, left + 6, top + 6)


class Noise(GrayPainter):
    """Paints noise everywhere, inside its mask and outside."""

    def _paint(self, request):
        return np.random.default_rng(request.seed).integers(0, 256, request.image.shape).astype(np.uint8)


def test_ten_rounds_of_accepting_everything_change_no_pixel_outside_the_support(bank):
    tools = inpainting_tools(defender=Restless(), inpainter=Noise(), gate=OpenGate())
    run = one(bank, CASES[0], tools, rounds=10, tries=99)
    assert len(run.rounds) == 10 and len(repairs_of(run)) >= 10
    support = np.zeros(SHAPE, bool)
    for item in run.rounds:
        for repair in item.repairs:
            support |= repair.plan.support
        changed = differing(bank.image(item.result), CASES[0].image)
        assert (changed & ~support).sum() == 0
        assert item.outside == outside_digest(CASES[0].image, support)
    assert changed.any() and (~support).any() and np.array_equal(support, run.support)


def test_protected_pixels_never_change(bank):
    protected = rectangle(SHAPE, 12, 0, 15, SIDE) | rectangle(SHAPE, 0, 12, SIDE, 15)
    tools = inpainting_tools(defender=Restless(), inpainter=Noise(), gate=OpenGate())
    run = one(bank, replace(CASES[0], protected=protected), tools, rounds=10, tries=99)
    changed = differing(bank.image(run.result), CASES[0].image)
    assert changed.sum() > 100 and not (changed & protected).any()


def test_a_picture_that_changed_outside_is_an_error_and_no_result(bank, monkeypatch):
    tools = inpainting_tools(inpainter=GrayPainter(failures=0))
    stored = bank.image
    left_alone = np.array([0, 0, 1], np.uint8)

    def spoiled(digest):
        image = stored(digest).copy()
        if image.shape[:2] == SHAPE:
            image[-1, 0] ^= left_alone
        return image

    monkeypatch.setattr(bank, "image", spoiled)
    with pytest.raises(ModelError, match="outside the planned regions"):
        one(bank, tools=tools)
    assert bank.load("one").rounds[0].verdict is None


# --- a person's mask ----------------------------------------------------------------------------------


def test_a_persons_mask_is_painted_though_nothing_is_found_there(bank):
    mask = rectangle(SHAPE, 10, 10, 20, 20)
    case = replace(CASES[2], mask=mask)
    tools = inpainting_tools(inpainter=GrayPainter(failures=0))
    run = one(bank, case, tools, rounds=5)
    assert np.array_equal(run.support, mask)
    assert differing(bank.image(run.result), case.image).any()
    assert len(run.rounds) == 1 and run.rounds[0].verdict.stop == MASK_DONE
    assert tools.inpainter.requests[0].prompt == "a gray wall"


def test_what_failed_in_a_persons_mask_is_tried_again_and_the_rest_is_not(bank):
    mask = rectangle(SHAPE, 2, 2, 10, 10) | rectangle(SHAPE, 18, 18, 28, 27)

    class SecondTime(GrayPainter):
        """The last region of the first call fails."""

        def inpaint(self, requests):
            images = super().inpaint(requests)
            if len(self.batches) == 1:
                images[-1] = requests[-1].image
            return images

    tools = inpainting_tools(inpainter=SecondTime(failures=0))
    run = one(bank, replace(CASES[0], mask=mask), tools, rounds=5, candidates=1)
    assert [len(item.repairs) for item in run.rounds] == [2, 1]
    assert run.rounds[-1].verdict.stop == MASK_DONE and not flawed(bank.image(run.result)).any()


def test_a_part_of_a_persons_mask_in_which_a_flaw_is_still_found_is_painted_again(bank):
    case = replace(CASES[0], mask=rectangle(SHAPE, 2, 2, 10, 10))
    tools = inpainting_tools(inpainter=GrayPainter(failures=256), gate=OpenGate())
    run = one(bank, case, tools, rounds=5)
    assert [repair.accepted for repair in repairs_of(run)] == [True, True]
    assert run.rounds[-1].verdict.stop == NOTHING_TO_TRY


def test_findings_outside_a_persons_mask_are_left_alone(bank):
    case = replace(CASES[0], mask=rectangle(SHAPE, 2, 2, 10, 10))
    run = one(bank, case, inpainting_tools(inpainter=GrayPainter(failures=0)))
    assert flawed(bank.image(run.result))[20:25, 20:26].all()
    assert [x.reason for x in run.rounds[0].left_out] == ["outside the mask"]


# --- painting in batches ------------------------------------------------------------------------------


def test_a_batch_equals_pictures_one_by_one(tmp_path, bank):
    together = inpaint(CASES, inpainting_tools(), bank, settings())
    (tmp_path / "apart").mkdir()
    other = bank_at(tmp_path / "apart")
    apart = [
        inpaint([case], inpainting_tools(), other, settings(batch_size=1))[0] for case in reversed(CASES)
    ]
    assert contents(together, bank) == contents(reversed(apart), other)
    assert len({len(run.rounds) for run in together}) > 1, "runs that end at different rounds are the point"


def test_disjoint_regions_of_all_pictures_go_to_the_painter_in_one_call(bank):
    tools = inpainting_tools(inpainter=GrayPainter(failures=0))
    runs = inpaint(CASES[:3], tools, bank, settings(candidates=2, batch_size=99))
    regions = sum(len(run.rounds[0].repairs) for run in runs)
    assert regions == 3 and tools.inpainter.batches == [2 * regions]


def test_a_region_that_touches_another_is_painted_on_top_of_it(bank):
    case = InpaintingCase("touching", picture((4, 4, 10, 10), (12, 4, 18, 9)), "a gray wall")
    tools = inpainting_tools(inpainter=GrayPainter(failures=0))
    run = one(bank, case, tools, candidates=1)
    first, second = run.rounds[0].repairs
    assert (first.plan.support & second.plan.support).any()
    assert tools.inpainter.batches == [1, 1]
    assert not flawed(bank.image(run.result)).any()
    # The second painter saw the first repair: no red is left where the first square was.
    left, top, right, bottom = second.plan.crop
    seen = tools.inpainter.requests[1].image
    assert seen[..., 1].min() < 60 and flawed(seen).sum() < flawed(case.image[top:bottom, left:right]).sum()


def test_every_painting_has_a_seed_of_its_own(bank):
    tools = inpainting_tools(inpainter=GrayPainter(failures=256))
    inpaint(CASES, tools, bank, settings(candidates=3))
    assert len(tools.inpainter.seen) > 20 and len(set(tools.inpainter.seen)) == len(tools.inpainter.seen)


def test_seeds_depend_on_the_picture_and_not_on_its_name(bank):
    tools = inpainting_tools()
    one(bank, CASES[0], tools)
    before = list(tools.inpainter.seen)
    tools.inpainter.seen.clear()
    one(bank, replace(CASES[0], run_id="renamed"), tools)
    assert tools.inpainter.seen == before
    tools.inpainter.seen.clear()
    one(bank, replace(CASES[0], run_id="reseeded", seed=8), tools)
    assert not set(tools.inpainter.seen) & set(before)


# --- the gate in the loop -----------------------------------------------------------------------------


class Jealous(GrayTaste):
    """Likes any one repair, and not two."""

    def score(self, images, prompts):
        self.count([image.tobytes() for image in images])
        repaired = [
            2 - Diagnosis(SquareDefender().diagnose([i])[0].findings).findings.__len__() for i in images
        ]
        return [Score(self.name, "1", (0.5, 0.9, 0.1)[n]) for n in repaired]


def test_two_repairs_that_are_fine_alone_and_bad_together_do_not_both_stay(bank):
    tools = inpainting_tools(inpainter=GrayPainter(failures=0), selection_scorer=Jealous())
    run = one(bank, tools=tools, rounds=1)
    assert [repair.accepted for repair in run.rounds[0].repairs] == [True, False]
    assert "fell to 0.1" in run.rounds[0].repairs[1].reason
    assert run.rounds[0].verdict.accepted and "1 of 2" in run.rounds[0].verdict.reason


class Wearying(GrayTaste):
    """Each repair costs a little."""

    def score(self, images, prompts):
        self.count([image.tobytes() for image in images])
        left = [len(found.findings) for found in SquareDefender().diagnose(images)]
        return [Score(self.name, "1", 0.5 + 0.04 * n) for n in left]


def test_all_repairs_together_cost_no_more_than_the_tolerance(bank):
    gate = MeasuredGate(RegionGateSettings("taste", score_tolerance=0.05, max_seam=40))
    tools = inpainting_tools(inpainter=GrayPainter(failures=0), selection_scorer=Wearying(), gate=gate)
    run = one(bank, CASES[3], tools)
    assert [repair.accepted for repair in run.rounds[0].repairs] == [True, False, False]
    assert "0.6200 of the picture as it came" in run.rounds[0].repairs[1].reason
    assert not any(repair.accepted for item in run.rounds[1:] for repair in item.repairs), "nor later"


class Shades(GrayPainter):
    """Each painting of a region is a little different."""

    def _paint(self, request):
        image = request.image.copy()
        image[request.mask] = GRAY - 8 + request.seed % 16
        return image


class Darker(GrayTaste):
    """The darker, the better."""

    def score(self, images, prompts):
        self.count([image.tobytes() for image in images])
        return [Score(self.name, "1", -float(image[..., 1].mean())) for image in images]


def test_the_best_of_the_accepted_candidates_is_taken(bank):
    tools = inpainting_tools(inpainter=Shades(), selection_scorer=Darker(), gate=OpenGate())
    run = one(bank, tools=tools, candidates=5, rounds=1)
    chosen = set()
    for repair in run.rounds[0].repairs:
        values = [candidate.scores[0].value for candidate in repair.candidates]
        assert repair.chosen == 1 + values.index(max(values))
        chosen.add(repair.chosen)
    assert chosen != {1}


def test_a_candidate_that_leaves_less_to_find_goes_before_a_prettier_one(bank):
    class Partly(GrayPainter):
        """The second candidate leaves one red pixel."""

        def _paint(self, request):
            image = request.image.copy()
            image[request.mask] = GRAY
            if len(self.requests) and request is self.requests[1]:
                rows, columns = np.nonzero(request.mask)
                image[rows[len(rows) // 2], columns[len(rows) // 2]] = (255, 0, 0)
            return image

    class Redder(GrayTaste):
        def score(self, images, prompts):
            return [Score(self.name, "1", float(flawed(image).mean())) for image in images]

    case = InpaintingCase("single", picture((8, 8, 24, 24)), "a gray wall")
    for gate in (OpenGate(),):
        run = one(
            bank, case, inpainting_tools(inpainter=Partly(), selection_scorer=Redder(), gate=gate), rounds=1
        )
    (repair,) = run.rounds[0].repairs
    found = [len(candidate.diagnosis.findings) for candidate in repair.candidates]
    assert found == [0, 1] and repair.candidates[1].scores[0].value > repair.candidates[0].scores[0].value
    assert repair.chosen == 1


def test_a_tint_of_the_painter_is_taken_out_unless_it_is_asked_for(bank):
    class Tinted(GrayPainter):
        """Everything is a little lighter, the context it was shown included."""

        def _paint(self, request):
            image = request.image.copy()
            image[request.mask] = GRAY
            return np.clip(image.astype(int) + 20, 0, 255).astype(np.uint8)

    tools = inpainting_tools(inpainter=Tinted(), gate=OpenGate())
    means = []
    for match_colors in (True, False):
        case = replace(CASES[0], run_id=f"tint-{match_colors}")
        run = one(bank, case, tools, rounds=1, match_colors=match_colors)
        core = np.logical_or.reduce([repair.plan.core for repair in run.rounds[0].repairs])
        means.append(bank.image(run.result)[core].mean())
    assert abs(means[0] - GRAY) < 4 and means[1] > GRAY + 15


def test_without_a_gate_everything_stays(bank):
    run = one(bank, tools=inpainting_tools(inpainter=GrayPainter(failures=256), gate=OpenGate()), rounds=1)
    assert all(repair.accepted for repair in run.rounds[0].repairs)
    assert run.settings["gate"] == {"name": "open"}


class Elsewhere:
    """Repairs a place of its own choice."""

    name = "elsewhere"

    def findings(self, run_id, round_index, diagnosis):
        return [replace(f, mask=rectangle(SHAPE, 20, 4, 26, 9)) for f in diagnosis.findings[:1]]


def test_what_is_repaired_can_be_chosen_by_another_rule(bank):
    run = one(bank, tools=inpainting_tools(aim=Elsewhere(), gate=OpenGate()), rounds=1, candidates=1)
    (repair,) = run.rounds[0].repairs
    assert np.array_equal(repair.plan.core, rectangle(SHAPE, 20, 4, 26, 9))
    assert run.settings["aim"] == "elsewhere" and len(run.rounds[0].diagnosis.findings) == 2


# --- words --------------------------------------------------------------------------------------------


def test_scores_are_taken_against_the_persons_words_or_the_first_diagnosis(bank):
    tools = inpainting_tools()
    one(bank, CASES[0], tools)
    assert {*tools.selection_scorer.prompts, *tools.reporting_scorers[0].prompts} == {"a gray wall"}
    tools.selection_scorer.prompts.clear()
    run = one(bank, CASES[1], tools)
    assert set(tools.selection_scorer.prompts) == {"a photo of a square"} == {scene_of(run)}
    assert run.prompt == ""


def test_a_second_try_builds_on_the_words_of_the_first(bank):
    tools = inpainting_tools(inpainter=GrayPainter(failures=256))
    run = one(bank, tools=tools, rounds=2)
    first, second = tools.modifier.requests[0], tools.modifier.requests[2]
    assert first.user_prompt == second.user_prompt == first.current_prompt == "a gray wall"
    assert second.current_prompt == run.rounds[0].repairs[0].prompt != "a gray wall"
    assert second.earlier_prompts == (run.rounds[0].repairs[0].prompt,)


def test_the_painter_is_told_the_words_the_record_keeps(bank):
    tools = inpainting_tools()
    run = one(bank, tools=tools, rounds=1, candidates=1, strength=0.75)
    assert [r.prompt for r in tools.inpainter.requests] == [x.prompt for x in run.rounds[0].repairs]
    assert {r.strength for r in tools.inpainter.requests} == {0.75}


def test_quality_words_go_to_the_painter_and_not_to_the_scorers(bank):
    tools = inpainting_tools()
    words = settings(rounds=1, quality="fine detail")
    (run,) = inpaint(CASES[:1], tools, bank, words)
    assert all(r.prompt.startswith("a gray wall, fine detail, ") for r in tools.inpainter.requests)
    assert set(tools.selection_scorer.prompts) == {"a gray wall"}
    (shown,) = preview(CASES[:1], tools, words)
    assert list(shown.prompts) == [repair.prompt for repair in run.rounds[0].repairs]


# --- stop and go on -----------------------------------------------------------------------------------


def test_a_run_that_is_stopped_after_any_commit_goes_on_and_repeats_nothing(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    straight = bank_at(whole)
    tools = inpainting_tools()
    cases = [CASES[0], CASES[3]]
    expected = contents(inpaint(cases, tools, straight, settings(rounds=2)), straight)
    painted, looked = sorted(tools.inpainter.seen), sorted(tools.defender.seen)
    for stop in range(1, straight.commits + 1, 3):
        folder = tmp_path / str(stop)
        folder.mkdir()
        broken = bank_at(folder)
        broken.interrupt_after = stop
        tools = inpainting_tools()
        with pytest.raises(KeyboardInterrupt):
            inpaint(cases, tools, broken, settings(rounds=2, batch_size=1))
        broken.close()
        bank = bank_at(folder)
        assert contents(inpaint(cases, tools, bank, settings(rounds=2, batch_size=1)), bank) == expected
        assert bank.commits == straight.commits - stop
        # With one sample per call, what was painted or looked at was committed before the interruption.
        assert sorted(tools.inpainter.seen) == painted and sorted(tools.defender.seen) == looked


def test_a_step_that_fails_and_is_tried_again_repeats_nothing(bank):
    class Flaky(GrayPainter):
        fails = 2

        def inpaint(self, requests):
            self.fails -= 1
            if self.fails == 0:
                raise ModelError("once")
            return super().inpaint(requests)

    def twice(label, work):
        try:
            work()
        except ModelError:
            work()

    tools = inpainting_tools(inpainter=Flaky())
    inpaint(CASES, tools, bank, settings(batch_size=2), run_step=twice)
    assert len(set(tools.inpainter.seen)) == len(tools.inpainter.seen)


def test_a_finished_run_is_not_touched_again(bank):
    tools = inpainting_tools()
    first = one(bank, tools=tools)
    commits, seen = bank.commits, len(tools.defender.seen)
    assert contents([one(bank, tools=tools)], bank) == contents([first], bank)
    assert (bank.commits, len(tools.defender.seen)) == (commits, seen)


@pytest.mark.parametrize(
    "change",
    [
        {"image": picture((4, 4, 8, 8))},
        {"mask": rectangle(SHAPE, 0, 0, 9, 9)},
        {"protected": rectangle(SHAPE, 0, 0, 9, 9)},
        {"prompt": "other words"},
        {"seed": 8},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_run_cannot_go_on_with_another_input(bank, change):
    one(bank)
    with pytest.raises(SettingsChanged):
        one(bank, replace(CASES[0], **change))


def test_the_batch_size_is_no_part_of_a_run(bank):
    one(bank)
    one(bank, batch_size=1)


# --- where pixels come from ---------------------------------------------------------------------------


def test_the_source_map_names_the_painter_of_every_pixel(bank):
    run = one(bank, CASES[3], inpainting_tools(inpainter=GrayPainter(failures=120)), rounds=3)
    sources = source_map(run, SHAPE)
    changed = differing(bank.image(run.result), CASES[3].image)
    assert not (changed & ~sources.painted).any() and changed.any()
    assert not (sources.painted & ~run.support).any()
    for entry in sources.legend:
        repair = run.rounds[entry.round - 1].repairs[entry.region - 1]
        assert repair.chosen == entry.candidate and repair.prompt == entry.prompt
        assert repair.candidates[entry.candidate - 1].seed == entry.seed and entry.model == "gray painter"
    accepted = [repair for repair in repairs_of(run) if repair.accepted]
    assert len(sources.legend) == len(accepted) < len(repairs_of(run))


# --- preview ------------------------------------------------------------------------------------------


def test_a_preview_shows_what_the_first_round_does_and_paints_nothing(bank):
    tools = inpainting_tools()
    shown = preview(CASES, tools, settings())
    assert tools.inpainter.seen == []
    runs = inpaint(CASES, tools, bank, settings())
    for seen, run in zip(shown, runs, strict=True):
        first = run.rounds[0]
        assert [region.crop for region in seen.plan.regions] == [x.plan.crop for x in first.repairs]
        assert all(
            np.array_equal(region.weights, x.plan.weights)
            for region, x in zip(seen.plan.regions, first.repairs, strict=True)
        )
        assert list(seen.prompts) == [x.prompt for x in first.repairs]


# --- events and bad input -----------------------------------------------------------------------------


def test_events_tell_every_step_and_every_end(bank):
    events = []
    runs = inpaint(CASES, inpainting_tools(), bank, settings(), on_event=events.append)
    started = [event for event in events if isinstance(event, StepStarted)]
    assert {event.step for event in started} == set(STEPS)
    assert {event.noun for event in started if event.step == "paint"} == {"region"}
    for event in started:
        key = (event.step, event.round, event.total)
        ends = [e for e in events if isinstance(e, StepFinished) and (e.step, e.round, e.total) == key]
        assert event.total in {e.done for e in ends}
    assert sum(isinstance(event, RoundFinished) for event in events) == sum(len(run.rounds) for run in runs)
    assert [event.done for event in events if isinstance(event, RunFinished)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": np.zeros((4, 4), np.uint8)}, "uint8"),
        ({"image": np.zeros((4, 4, 3), np.float32)}, "uint8"),
        ({"mask": np.zeros(SHAPE, bool)}, "mask is empty"),
        ({"mask": np.ones((5, 7), bool)}, "7x5 pixels and the picture 32x32"),
        ({"protected": np.ones((5, 7), bool)}, "7x5 pixels and the picture 32x32"),
    ],
)
def test_input_that_cannot_be_used_is_refused_before_anything_begins(bank, change, words):
    with pytest.raises(InvalidInput, match=words):
        inpaint([CASES[1], replace(CASES[0], **change)], inpainting_tools(), bank, settings())
    assert bank.runs() == []


def test_two_pictures_cannot_share_a_run(bank):
    with pytest.raises(InvalidInput, match="each picture needs its own"):
        inpaint([CASES[0], CASES[0]], inpainting_tools(), bank, settings())


@pytest.mark.parametrize(
    "change",
    [{"rounds": 0}, {"candidates": 0}, {"tries": 0}, {"strength": 0.0}, {"strength": 1.1}, {"batch_size": 0}],
    ids=str,
)
def test_settings_that_make_no_loop_are_refused(change):
    with pytest.raises(InvalidInput):
        settings(**change)


def test_a_missing_score_stops_the_run_and_accepts_nothing(bank):
    class Broken(GrayTaste):
        def score(self, images, prompts):
            self.count([0] * len(images))
            value = float("nan") if len(self.batches) > 1 else 0.5
            return [Score(self.name, "1", value) for _ in images]

    with pytest.raises(ModelError, match="not a number"):
        one(bank, tools=inpainting_tools(selection_scorer=Broken()))
    run = bank.load("one")
    assert run.status == "interrupted" and np.array_equal(bank.image(run.result), CASES[0].image)


class Paid(Counting):
    """Every answer takes a call, and what was spent before is remembered."""

    def __init__(self):
        super().__init__("paid")
        self.spent = []

    def revise(self, requests):
        self.spent.append([request.spent.calls for request in requests])
        return [Revision(f"{r.current_prompt}, better", usage=Usage(1, 10, 5, 0.5)) for r in requests]


def test_each_region_knows_what_the_run_has_spent_so_far(bank):
    modifier = Paid()
    tools = inpainting_tools(inpainter=GrayPainter(failures=256), modifier=modifier)
    run, other = inpaint([CASES[0], CASES[1]], tools, bank, settings(rounds=2))
    kept = [bank.load(x.run_id) for x in (run, other)]
    taken = [[repair.usage.calls for item in x.rounds for repair in item.repairs or ()] for x in kept]
    assert [repair for one in taken for repair in one] == [1] * sum(map(len, taken)) and len(taken[0]) > 1
    told = [calls for turn in modifier.spent for calls in turn]
    assert sorted(told) == sorted(number for one in taken for number in range(len(one)))

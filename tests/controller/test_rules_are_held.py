"""Every rule of planner, compositor and gate is held by a test: take the rule out, and that test fails."""

from __future__ import annotations

import inspect
from types import FunctionType, ModuleType

import numpy as np
import pytest
import test_compositing
import test_region_gate
import test_regions
from region_samples import finding, rectangle

from controller import compositing, region_gate, regions

NOT_WORTH = [
    (finding(rectangle(test_regions.SHAPE, 5, 5, 15, 15), 0.29), "confidence 0.29 is below 0.3"),
    (finding(rectangle(test_regions.SHAPE, 5, 5, 7, 7)), "less than 0.1 %"),
    (finding(rectangle(test_regions.SHAPE, 0, 0, 80, 58)), "more than 90 %"),
    (finding(np.zeros(test_regions.SHAPE, bool)), "marks no pixel"),
]

# What is taken out, what stands in its place, the test that notices, and what that test is called with.
PLANNER = {
    "least confidence": (
        "if finding.confidence < settings.min_confidence:",
        "if False:",
        "test_findings_that_are_not_worth_a_repair_are_left_out_with_the_reason",
        NOT_WORTH[0],
    ),
    "least area": (
        "if finding.area < settings.min_area:",
        "if False:",
        "test_findings_that_are_not_worth_a_repair_are_left_out_with_the_reason",
        NOT_WORTH[1],
    ),
    "largest area": (
        "if finding.area > settings.max_area:",
        "if False:",
        "test_findings_that_are_not_worth_a_repair_are_left_out_with_the_reason",
        NOT_WORTH[2],
    ),
    "some pixel": (
        "if not finding.mask.any():",
        "if False:",
        "test_findings_that_are_not_worth_a_repair_are_left_out_with_the_reason",
        NOT_WORTH[3],
    ),
    "only inside a person's mask": (
        "if user_mask is not None and not (finding.mask & user_mask).any():",
        "if False:",
        "test_a_persons_mask_takes_the_place_of_the_findings_masks",
        (),
    ),
    "merge by overlap": (
        "if masks.iou(a, b) >= settings.merge_iou:",
        "if False:",
        "test_merging_goes_on_until_nothing_says_the_same",
        (),
    ),
    "merge what lies inside": (
        "return max(masks.inside(a, b), masks.inside(b, a)) >= settings.merge_inside",
        "return False",
        "test_a_mask_inside_another_is_merged_though_their_union_is_large",
        (),
    ),
    "merge until nothing is left": (
        "areas = [_join(group) for group in groups]",
        "return [_join(group) for group in groups]",
        "test_merging_goes_on_until_nothing_says_the_same",
        (),
    ),
    "order": (
        "regions.sort(key=_rank)",
        "pass",
        "test_more_severity_per_painted_pixel_comes_first_and_the_rest_is_beyond_top_k",
        (),
    ),
    "top k": (
        "count = settings.top_k if user_mask is None else len(regions)",
        "count = len(regions)",
        "test_more_severity_per_painted_pixel_comes_first_and_the_rest_is_beyond_top_k",
        (),
    ),
    "all parts of a person's mask": (
        "count = settings.top_k if user_mask is None else len(regions)",
        "count = settings.top_k",
        "test_a_persons_mask_takes_the_place_of_the_findings_masks",
        (),
    ),
    "protected pixels": (
        "if protected is not None:\n            weights",
        "if False:\n            weights",
        "test_protected_pixels_are_taken_away_and_a_region_of_nothing_else_is_left_out",
        (),
    ),
    "given up": (
        "if any(masks.same_region(core, old) for old in given_up) else None",
        "if False else None",
        "test_regions_given_up_are_not_planned_again",
        (),
    ),
    "growth": (
        "grown = _pixels(settings.dilate_pixels, settings.dilate, side)",
        "grown = 0",
        "test_growth_and_feather_follow_the_regions_size",
        (),
    ),
    "feather": (
        "soft = _pixels(settings.feather_pixels, settings.feather, side)",
        "soft = 0",
        "test_growth_and_feather_follow_the_regions_size",
        (),
    ),
    "absolute pixels": (
        "if absolute is not None:",
        "if False:",
        "test_absolute_pixels_override_the_proportions",
        (),
    ),
    "a person's mask is feathered inward": (
        "    if inward:",
        "    if False:",
        "test_the_feather_of_a_persons_mask_lies_inside_it_and_reaches_full_weight",
        (),
    ),
    "context": (
        "margin = math.ceil(settings.context * max(wide, high))",
        "margin = 0",
        "test_a_small_region_is_enlarged_with_its_context_as_far_as_allowed",
        (),
    ),
    "largest enlargement": (
        "1 / settings.max_enlargement",
        "0",
        "test_a_small_region_is_enlarged_with_its_context_as_far_as_allowed",
        (),
    ),
    "crops move inside": (
        "start = min(max((first + last - length) // 2, 0), limit - length)",
        "start = (first + last - length) // 2",
        "test_at_the_border_the_crop_moves_inside_instead_of_shrinking",
        (),
    ),
    "native number of pixels": (
        "scale = math.sqrt(size.width * size.height / (wide * high))",
        "scale = 1.0",
        "test_crops_are_painted_in_their_own_shape_at_the_models_own_number_of_pixels",
        (regions.Box(0, 0, 200, 100), regions.PaintingSize(1024, 1024), (1440, 728)),
    ),
    "regions that touch are apart": (
        "near = masks.grow(region.support, 1.5)",
        "near = region.support",
        "test_regions_that_meet_are_painted_one_after_the_other",
        (),
    ),
    "masks of the picture's size": (
        'check_area(user_mask, shape, "mask")',
        "pass",
        "test_masks_that_cannot_be_used_are_refused_with_both_sizes",
        (),
    ),
    "no empty mask": (
        "if user_mask is not None and not user_mask.any():",
        "if False:",
        "test_masks_that_cannot_be_used_are_refused_with_both_sizes",
        (),
    ),
}
COMPOSITOR = {
    "the base is not written to": (
        "result = base.copy()",
        "result = base",
        "test_no_pixel_outside_the_support_changes_over_many_rounds",
        (((20, 30), [finding(rectangle((20, 30), 5, 5, 15, 15))], None), 2, 2, True, 3),
    ),
    "only the support": (
        "inside = weights > 0",
        "inside, weights = weights >= 0, np.maximum(weights, 9)",
        "test_no_pixel_outside_the_support_changes_over_many_rounds",
        (((20, 30), [finding(rectangle((20, 30), 5, 5, 15, 15))], None), 2, 2, True, 3),
    ),
    "weights": (
        "share = weights[inside].astype(np.int32)[:, None]",
        "share = 255",
        "test_weights_are_shares_of_the_painted_pixel",
        (),
    ),
    "place": (
        "window = (slice(top, bottom), slice(left, right))",
        "window = (slice(0, bottom - top), slice(0, right - left))",
        "test_the_crop_is_pasted_where_it_was_taken_from",
        (),
    ),
    "tint": ("if match_colors:", "if False:", "test_a_tint_of_the_painter_is_taken_out_by_the_ring", ()),
    "largest tint": (
        "np.clip(np.round(shift), -MAX_COLOR_SHIFT, MAX_COLOR_SHIFT)",
        "np.round(shift)",
        "test_what_is_painted_inside_does_not_count_as_a_tint_and_a_tint_is_small",
        (),
    ),
    "tint of the ring alone": (
        "ring = masks.grow(support, RING) & ~support",
        "ring = masks.grow(support, RING)",
        "test_what_is_painted_inside_does_not_count_as_a_tint_and_a_tint_is_small",
        (),
    ),
    "size of the crop": (
        "if painted.dtype != np.uint8 or painted.shape != (height, width, 3):",
        "if False:",
        "test_a_crop_of_another_size_or_type_is_the_painters_fault",
        (np.zeros((8, 9, 3), np.uint8),),
    ),
    "the proof sees the outside": (
        "content.update(np.ascontiguousarray(image[~support]).tobytes())",
        "pass",
        "test_the_digest_sees_every_bit_outside_and_none_inside",
        (0, 0, 0),
    ),
    "the proof sees nothing else": (
        "content.update(np.ascontiguousarray(image[~support]).tobytes())",
        "content.update(np.ascontiguousarray(image).tobytes())",
        "test_the_digest_sees_every_bit_outside_and_none_inside",
        (6, 6, 0),
    ),
    "the proof knows the support": (
        "content.update(np.packbits(support).tobytes())",
        "pass",
        "test_the_digest_is_bound_to_the_support_and_the_shape",
        (),
    ),
}
GATE = {
    "the outside": (
        "_outside_changed(old, new)\n        or ",
        "",
        "test_a_pixel_changed_outside_rolls_back",
        (),
    ),
    "the flaw": (
        "or _still_there(region, old.diagnosis, new.diagnosis, settings)",
        "",
        "test_what_is_left_of_the_flaw_must_be_clearly_smaller",
        (6, False),
    ),
    "something new": (
        "or _new_nearby(region, old.diagnosis, _without(unseen, new.diagnosis), settings)",
        "",
        "test_something_new_beside_the_region_rolls_back",
        ((30, 20, 33, 22),),
    ),
    "what was there before": (
        "not known(finding, old.findings) and masks.inside(finding.mask, region.support) < settings.caused",
        "not known(finding, old.findings)",
        "test_something_new_beside_the_region_rolls_back",
        ((30, 20, 33, 22),),
    ),
    "what was seen before": (
        "if not known(finding, old.findings) and masks.inside",
        "if masks.inside",
        "test_a_flaw_seen_before_is_answered_for_wherever_it_lies",
        (),
    ),
    "something that grew": (
        "if growth > settings.nearby_slack * severity_in(old, support):",
        "if False:",
        "test_a_flaw_that_moved_beside_its_place_is_not_repaired",
        (),
    ),
    "another kind": (
        "finding.category == other.category",
        "True",
        "test_a_flaw_of_another_kind_in_its_place_is_new",
        (),
    ),
    "the score of one repair": (
        "if new.value < old.value - settings.score_tolerance:",
        "if False:",
        "test_what_earlier_repairs_gained_may_not_be_lost_by_one",
        (),
    ),
    "the score of all repairs": (
        "if new.value < first.value - settings.score_tolerance:",
        "if False:",
        "test_repairs_that_each_cost_a_little_cost_no_more_together_than_one_may",
        (),
    ),
    "the seam": (
        "or _seam_shows(old.seam, new.seam, settings)",
        "",
        "test_a_seam_may_not_show_but_an_outline_that_was_there_may",
        (0, 11, False),
    ),
    "the outline that was there": (
        "if new <= max(old, 0.0) + settings.max_seam:",
        "if new <= settings.max_seam:",
        "test_a_seam_may_not_show_but_an_outline_that_was_there_may",
        (30, 39, True),
    ),
    "tries": (
        "if tries_of(a.core, attempts) >= tries]",
        "if False]",
        "test_a_region_is_given_up_after_two_tries_wherever_it_wandered_a_little",
        (),
    ),
    "accepted tries count": (
        "if masks.same_region(core, a.core) or masks.same_region(a.core, core))",
        "if masks.same_region(core, a.core) and not a.accepted)",
        "test_a_flaw_that_comes_back_after_accepted_repairs_is_given_up_too",
        (),
    ),
}
RULES = [
    pytest.param(module, tests, *rule, id=f"{module.__name__.rpartition('.')[2]}: {name}")
    for module, tests, rules in (
        (regions, test_regions, PLANNER),
        (compositing, test_compositing, COMPOSITOR),
        (region_gate, test_region_gate, GATE),
    )
    for name, rule in rules.items()
]


@pytest.mark.parametrize(("module", "tests", "rule", "instead", "test", "arguments"), RULES)
def test_a_named_test_fails_when_the_rule_is_removed(
    monkeypatch, module, tests, rule, instead, test, arguments
):
    held = _plain(getattr(tests, test))
    assert _passes(held, arguments)
    _take_out(monkeypatch, module, rule, instead)
    assert not _passes(held, arguments), f"{test} does not notice"


def _take_out(monkeypatch, module: ModuleType, rule: str, instead: str) -> None:
    """Let all functions of the module do what they would without the rule, whoever holds them."""
    source = inspect.getsource(module)
    assert source.count(rule) == 1, f"reword this case: the rule is written otherwise: {rule}"
    spoiled = ModuleType(module.__name__)
    exec(compile(source.replace(rule, instead), module.__name__, "exec"), vars(spoiled))
    for name, function in vars(module).items():
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            monkeypatch.setattr(function, "__code__", vars(spoiled)[name].__code__)


def _plain(test):
    """The test itself, without what feeds it."""
    return test.hypothesis.inner_test if hasattr(test, "hypothesis") else test


def _passes(test, arguments) -> bool:
    try:
        test(*arguments)
    except (Exception, pytest.fail.Exception):
        return False
    return True

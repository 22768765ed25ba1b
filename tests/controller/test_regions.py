from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from region_samples import finding, pictures_with_findings, rectangle, rectangles, shapes

from contracts.errors import InvalidInput, ModelError
from contracts.records import Box
from controller import masks, regions
from controller.regions import PaintingSize, RegionSettings, group_disjoint, plan_regions

SHAPE = (60, 80)
SIZE = PaintingSize(64, 64, 8)
RULES = RegionSettings(min_confidence=0.3, min_area=0.001, max_area=0.9)

sizes = st.builds(
    lambda w, h, a: PaintingSize(w * a, h * a, a),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 8]),
)
some_settings = st.builds(
    RegionSettings,
    min_confidence=st.floats(0, 0.8),
    top_k=st.integers(1, 3),
    dilate=st.floats(0, 0.5),
    feather=st.floats(0, 0.5),
    feather_pixels=st.none() | st.integers(0, 9),
    context=st.floats(0, 2),
    max_enlargement=st.floats(1, 8),
)
quick = hypothesis_settings(deadline=None, max_examples=60)


def plan(*findings, rules=RULES, **more):
    return plan_regions(findings, SHAPE, rules, SIZE, **more)


def reasons(made):
    return [left.reason for left in made.left_out]


# --- what holds for every plan ------------------------------------------------------------------------


@quick
@given(pictures_with_findings(), some_settings, sizes)
def test_every_plan_keeps_its_promises(picture, rules, size):
    shape, found, protected = picture
    made = plan_regions(found, shape, rules, size, protected=protected)
    answered = [f for region in made.regions for f in region.findings]
    left = [f for item in made.left_out for f in item.findings]
    assert sorted(map(id, answered + left)) == sorted(map(id, found))
    assert len(made.regions) <= rules.top_k
    assert [r.gain for r in made.regions] == sorted((r.gain for r in made.regions), reverse=True)
    for region in made.regions:
        assert all(f.confidence >= rules.min_confidence for f in region.findings)
        assert region.weights.dtype == np.uint8 and region.weights.shape == shape
        assert region.core.any() and (region.weights[region.core] == 255).all()
        if protected is not None:
            assert not (region.support & protected).any()
        check_crop(region, shape, size)
    if protected is None:
        cores = [region.core for region in made.regions]
        assert not any(regions._alike(a, b, rules) for i, a in enumerate(cores) for b in cores[:i])


def check_crop(region, shape, size):
    left, top, right, bottom = region.crop
    assert 0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]
    outside = region.support.copy()
    outside[top:bottom, left:right] = False
    assert not outside.any()
    width, height = region.target
    assert width % size.alignment == 0 and height % size.alignment == 0 and min(width, height) > 0
    assert width * height <= size.width * size.height
    request = regions.crop_request(np.zeros((*shape, 3), np.uint8), region, "p", 1)
    assert request.image.shape == (height, width, 3) and request.mask.shape == (height, width)
    assert request.mask.any()


@quick
@given(pictures_with_findings(), st.randoms())
def test_the_order_of_the_findings_does_not_matter(picture, random):
    shape, found, protected = picture
    shuffled = random.sample(found, len(found))
    one, other = (
        plan_regions(f, shape, RegionSettings(), SIZE, protected=protected) for f in (found, shuffled)
    )
    assert len(one.regions) == len(other.regions) and len(one.left_out) == len(other.left_out)
    # Twins of one mask and one gain may change places.
    for a, b in zip(one.regions, other.regions, strict=True):
        assert a.gain == pytest.approx(b.gain) and a.crop == b.crop and np.array_equal(a.weights, b.weights)


@quick
@given(shapes.flatmap(lambda s: st.tuples(rectangles(s), rectangles(s), rectangles(s))), some_settings)
def test_with_a_persons_mask_exactly_its_pixels_may_change(three, rules):
    one, two, protected = three
    mine = one ^ two
    if not mine.any():
        return
    made = plan_regions([], mine.shape, rules, SIZE, user_mask=mine, protected=protected)
    total = np.zeros(mine.shape, bool)
    for region in made.regions:
        assert not (total & region.support).any()
        total |= region.support
    assert np.array_equal(total, mine & ~protected)


@quick
@given(pictures_with_findings(max_findings=6), some_settings)
def test_groups_hold_every_region_once_and_no_two_that_touch(picture, rules):
    shape, found, _ = picture
    made = plan_regions(found, shape, replace(rules, top_k=6), SIZE).regions
    groups = group_disjoint(made)
    assert sorted(id(r) for g in groups for r in g) == sorted(map(id, made))
    for group in groups:
        assert not any(masks.touching(a.support, b.support) for i, a in enumerate(group) for b in group[:i])


def test_regions_that_meet_are_painted_one_after_the_other():
    rules = replace(RULES, dilate=0, feather=0)
    first = finding(rectangle(SHAPE, 10, 10, 20, 20))
    for left, groups in ((20, [1, 1]), (21, [2])):
        made = plan(first, finding(rectangle(SHAPE, left, 10, left + 10, 20)), rules=rules).regions
        assert [len(group) for group in group_disjoint(made)] == groups


# --- one rule each ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left_out", "reason"),
    [
        (finding(rectangle(SHAPE, 5, 5, 15, 15), 0.29), "confidence 0.29 is below 0.3"),
        (finding(rectangle(SHAPE, 5, 5, 7, 7)), "less than 0.1 %"),
        (finding(rectangle(SHAPE, 0, 0, 80, 58)), "more than 90 %"),
        (finding(np.zeros(SHAPE, bool)), "marks no pixel"),
    ],
)
def test_findings_that_are_not_worth_a_repair_are_left_out_with_the_reason(left_out, reason):
    good = finding(rectangle(SHAPE, 40, 30, 50, 40))
    made = plan(left_out, good)
    assert [r.findings for r in made.regions] == [(good,)]
    assert [item.findings for item in made.left_out] == [(left_out,)] and reason in made.left_out[0].reason


def test_limits_are_part_of_the_range():
    assert len(plan(finding(rectangle(SHAPE, 5, 5, 15, 15), 0.3)).regions) == 1
    whole = finding(np.ones(SHAPE, bool))
    (region,) = plan(whole, rules=replace(RULES, max_area=1.0)).regions
    assert region.crop == Box(0, 0, 80, 60) and (region.weights == 255).all()


@pytest.mark.parametrize("share", [0.81, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(60, 80), (31, 200), (5, 7)], ids=["landscape", "panorama", "tiny"])
def test_a_region_that_covers_almost_everything_is_one_region_shown_whole(shape, share):
    mask = np.zeros(shape, bool)
    mask.ravel()[: int(np.ceil(share * mask.size))] = True
    edge = rectangle(shape, 0, 0, 1, shape[0])
    (region,) = plan_regions([finding(mask)], shape, RegionSettings(), SIZE, protected=edge).regions
    assert 0.8 <= mask.mean() <= 1 and np.array_equal(region.core, mask & ~edge)
    assert (region.weights[region.core] == 255).all() and not (region.support & edge).any()
    check_crop(region, shape, SIZE)
    left, _, right, bottom = region.crop
    assert (right - left >= shape[1] - 1) and bottom >= np.nonzero(mask.any(axis=1))[0][-1] + 1
    made = plan_regions([finding(mask)], shape, replace(RegionSettings(), max_area=0.8), SIZE)
    assert not made.regions and "more than 80 %" in made.left_out[0].reason


def test_masks_that_say_the_same_are_one_region_that_keeps_both_findings():
    a = finding(rectangle(SHAPE, 10, 10, 20, 20), 0.6, "a")
    moved = finding(rectangle(SHAPE, 12, 10, 22, 20), 0.9, "b")  # IoU 8 / 12
    for given_in_order in ((a, moved), (moved, a)):
        (region,) = plan(*given_in_order).regions
        assert region.findings == (moved, a), "the worst first"
    assert np.array_equal(region.core, a.mask | moved.mask)


def test_a_mask_inside_another_is_merged_though_their_union_is_large():
    large, small = rectangle(SHAPE, 10, 10, 40, 40), rectangle(SHAPE, 36, 20, 41, 26)  # 4 of 5 columns inside
    assert masks.iou(large, small) < RULES.merge_iou
    assert len(plan(finding(large), finding(small)).regions) == 1
    assert len(plan(finding(large), finding(small), rules=replace(RULES, merge_inside=0.85)).regions) == 2


def test_merging_goes_on_until_nothing_says_the_same():
    # Neither row lies 80 % inside one of the first two, but 90 % inside both together.
    left, right = rectangle(SHAPE, 10, 10, 22, 20), rectangle(SHAPE, 16, 10, 28, 20)
    bar = rectangle(SHAPE, 11, 12, 29, 14)
    rules = replace(RULES, merge_iou=0.3)
    assert max(masks.inside(bar, left), masks.inside(bar, right)) < 0.8
    assert masks.inside(bar, left | right) > 0.8
    assert len(plan(finding(left), finding(right), finding(bar), rules=rules).regions) == 1


def test_masks_that_only_meet_stay_apart():
    assert (
        len(
            plan(finding(rectangle(SHAPE, 10, 10, 20, 20)), finding(rectangle(SHAPE, 18, 10, 30, 20))).regions
        )
        == 2
    )


def test_more_severity_per_painted_pixel_comes_first_and_the_rest_is_beyond_top_k():
    weak_but_large = finding(rectangle(SHAPE, 0, 0, 40, 40), 0.5)
    sure_and_small = finding(rectangle(SHAPE, 60, 40, 70, 50), 0.9)
    made = plan(weak_but_large, sure_and_small)
    assert [r.findings for r in made.regions] == [(sure_and_small,), (weak_but_large,)]
    first = made.regions[0]
    assert first.gain == pytest.approx(0.9 * 100 / first.support.sum())
    made = plan(weak_but_large, sure_and_small, rules=replace(RULES, top_k=1))
    assert [r.findings for r in made.regions] == [(sure_and_small,)]
    assert reasons(made) == ["beyond the 1 best regions"]


def test_growth_and_feather_follow_the_regions_size():
    rules = replace(RULES, dilate=0.2, feather=0.3)
    for side, grown, soft in ((10, 2, 3), (20, 4, 6)):
        (region,) = plan(finding(rectangle(SHAPE, 30, 20, 30 + side, 20 + side)), rules=rules).regions
        row = region.weights[25, :31][::-1].astype(int)  # from the edge outward
        assert (row[: grown + 1] == 255).all() and row[grown + 1] < 255
        ramp = row[grown : grown + soft + 2]
        assert ramp[-1] == 0 and ramp[-2] > 0 and (np.diff(ramp) < 0).all()


def test_absolute_pixels_override_the_proportions():
    rules = replace(RULES, dilate_pixels=4, feather_pixels=0)
    (region,) = plan(finding(rectangle(SHAPE, 30, 20, 40, 30)), rules=rules).regions
    row = region.weights[25, :31][::-1]
    assert (row[:5] == 255).all() and row[5] == 0


def test_protected_pixels_are_taken_away_and_a_region_of_nothing_else_is_left_out():
    area = finding(rectangle(SHAPE, 30, 20, 50, 30))
    protected = rectangle(SHAPE, 40, 0, 80, 60)
    (region,) = plan(area, protected=protected).regions
    assert np.array_equal(region.core, rectangle(SHAPE, 30, 20, 40, 30))
    assert not (region.support & protected).any() and region.support.any()
    made = plan(area, protected=rectangle(SHAPE, 25, 15, 55, 35))
    assert not made.regions and reasons(made) == ["lies in the protected area"]


def test_regions_given_up_are_not_planned_again():
    area = finding(rectangle(SHAPE, 30, 20, 40, 30))
    moved = rectangle(SHAPE, 32, 20, 42, 30)
    made = plan(area, given_up=[moved])
    assert not made.regions and reasons(made) == ["given up after earlier tries"]
    assert plan(area, given_up=[rectangle(SHAPE, 0, 0, 10, 10)]).regions


def test_a_persons_mask_takes_the_place_of_the_findings_masks():
    mine = rectangle(SHAPE, 10, 10, 30, 30) | rectangle(SHAPE, 60, 40, 70, 50)
    met, missed = finding(rectangle(SHAPE, 25, 25, 40, 40)), finding(rectangle(SHAPE, 50, 0, 60, 10))
    made = plan(met, missed, user_mask=mine, rules=replace(RULES, top_k=1))
    assert [r.findings for r in made.regions] == [(met,), ()], "all parts that were drawn, in spite of top_k"
    assert np.array_equal(made.regions[0].support, rectangle(SHAPE, 10, 10, 30, 30))
    assert reasons(made) == ["outside the mask"]


def test_the_feather_of_a_persons_mask_lies_inside_it_and_reaches_full_weight():
    mine = rectangle(SHAPE, 10, 10, 19, 19)
    (region,) = plan(user_mask=mine, rules=replace(RULES, feather_pixels=300)).regions
    assert region.weights[14, 14] == 255 and 0 < region.weights[10, 10] < 100


def test_even_the_faintest_edge_of_a_persons_mask_is_painted():
    mine = rectangle((1, 600), 0, 0, 599, 1)
    rules = replace(RULES, max_area=1.0, feather_pixels=600)
    (region,) = plan_regions([], mine.shape, rules, SIZE, user_mask=mine).regions
    assert np.array_equal(region.support, mine) and region.weights[0, 598] == 1


def test_brush_strokes_close_together_are_one_region():
    dots = rectangle(SHAPE, 10, 10, 12, 12) | rectangle(SHAPE, 13, 10, 15, 12)
    assert len(plan(user_mask=dots).regions) == 1
    assert len(plan(user_mask=dots | rectangle(SHAPE, 30, 10, 32, 12)).regions) == 2


def test_masks_that_cannot_be_used_are_refused_with_both_sizes():
    wrong = np.ones((64, 48), bool)
    for name in ("user_mask", "protected"):
        with pytest.raises(InvalidInput, match="48x64.*80x60"):
            plan(**{name: wrong})
    with pytest.raises(InvalidInput, match="the mask is empty"):
        plan(user_mask=np.zeros(SHAPE, bool))
    with pytest.raises(ModelError, match="48x64.*80x60"):
        plan(finding(wrong))
    with pytest.raises(ModelError, match="confidence nan"):
        plan(finding(rectangle(SHAPE, 5, 5, 6, 6), float("nan")))


# --- crops --------------------------------------------------------------------------------------------


def test_a_small_region_is_enlarged_with_its_context_as_far_as_allowed():
    rules = replace(RULES, context=0.5, max_enlargement=4)
    box = regions.crop_box(rectangle((512, 512), 300, 200, 310, 210), rules, SIZE)
    assert box == Box(295, 195, 315, 215)  # 10 px and 5 px on each side, enlarged 3.2 times
    assert regions.target_size(box, SIZE) == (64, 64)
    speck = regions.crop_box(rectangle((512, 512), 300, 200, 302, 202), rules, SIZE)
    assert speck == Box(293, 193, 309, 209)  # 16 px: enlarged 4 times and no more


def test_at_the_border_the_crop_moves_inside_instead_of_shrinking():
    box = regions.crop_box(rectangle((512, 512), 0, 500, 10, 512), RULES, SIZE)
    assert box == Box(0, 488, 24, 512)


@pytest.mark.parametrize(
    ("crop", "size", "target"),
    [
        (Box(0, 0, 24, 24), PaintingSize(64, 64), (64, 64)),
        (Box(0, 0, 1500, 1000), PaintingSize(96, 64), (96, 64)),
        (Box(0, 0, 200, 100), PaintingSize(1024, 1024), (1440, 728)),
        (Box(0, 0, 100, 200), PaintingSize(1024, 1024), (728, 1440)),
        (Box(0, 0, 5000, 2), PaintingSize(64, 64), (512, 8)),
        (Box(0, 0, 1, 1), PaintingSize(64, 64), (64, 64)),
    ],
)
def test_crops_are_painted_in_their_own_shape_at_the_models_own_number_of_pixels(crop, size, target):
    assert regions.target_size(crop, size) == target


def test_the_painters_mask_covers_every_target_pixel_that_shows_support():
    mask = np.zeros((10, 10), bool)
    mask[9, 0] = True
    assert np.array_equal(np.argwhere(regions._cover(mask, (3, 3))), [[2, 0]])
    assert np.array_equal(regions._cover(mask, (20, 20)), np.kron(mask, np.ones((2, 2), bool)))


def test_a_request_shows_the_crop():
    image = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), np.uint8)
    whole = plan_regions([finding(np.ones(SHAPE, bool))], SHAPE, RegionSettings(), PaintingSize(80, 60, 4))
    request = regions.crop_request(image, whole.regions[0], "p", 7, negative_prompt="n", strength=0.5)
    assert np.array_equal(request.image, image) and request.mask.all()
    assert (request.prompt, request.seed, request.negative_prompt, request.strength) == ("p", 7, "n", 0.5)


def test_the_parts_of_a_persons_mask_are_counted_as_they_are_planned():
    rng = np.random.default_rng(3)
    for share in (0.01, 0.05):
        mask, protected = rng.random((2, *SHAPE)) < share
        protected[:20] = True
        plan = plan_regions([], SHAPE, RULES, SIZE, user_mask=mask, protected=protected)
        assert regions.count_parts(mask, protected) == len(plan.regions)
        assert regions.count_parts(mask) == len(plan.regions) + len(plan.left_out)


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_confidence": 1.1},
        {"min_confidence": float("nan")},
        {"min_area": -0.1},
        {"max_area": 1.5},
        {"min_area": 0.5, "max_area": 0.4},
        {"top_k": 0},
        {"merge_iou": 0},
        {"merge_inside": 1.2},
        {"dilate": -1},
        {"feather": float("inf")},
        {"context": -0.1},
        {"dilate_pixels": -1},
        {"feather_pixels": -1},
        {"max_enlargement": 0.5},
    ],
)
def test_settings_that_make_no_plan_are_refused(wrong):
    with pytest.raises(InvalidInput, match="choose|nothing lies between"):
        RegionSettings(**wrong)


@pytest.mark.parametrize("size", [(60, 64, 8), (64, 0, 8), (64, 64, 0)])
def test_painting_sizes_that_do_not_align_are_refused(size):
    with pytest.raises(InvalidInput, match="multiples"):
        PaintingSize(*size)

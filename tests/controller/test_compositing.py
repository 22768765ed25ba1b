import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from region_samples import finding, pictures_with_findings, rectangle

from contracts.errors import InvalidInput, ModelError
from contracts.records import Box, RegionPlan
from controller.compositing import Source, SourceMap, color_shift, composite, outside_digest, resample
from controller.regions import PaintingSize, RegionSettings, plan_regions

quick = hypothesis_settings(deadline=None, max_examples=50)


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def region_of(weights, crop=None, target=None):
    height, width = weights.shape
    return RegionPlan(
        (),
        weights == 255,
        weights.astype(np.uint8),
        crop or Box(0, 0, width, height),
        target or (width, height),
        1.0,
    )


@quick
@given(pictures_with_findings(), st.integers(1, 9), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_no_pixel_outside_the_support_changes_over_many_rounds(picture, w, h, match_colors, seed):
    shape, found, protected = picture
    size = PaintingSize(w * 8, h * 8)
    rules = RegionSettings(min_confidence=0.0)
    pristine = image = noise(shape, seed)
    allowed = np.zeros(shape, bool)
    for round_index in range(3):
        for region in plan_regions(found, shape, rules, size, protected=protected).regions:
            untouched = image.copy()
            result = composite(
                image, noise(region.target[::-1], seed + round_index), region, match_colors=match_colors
            )
            assert np.array_equal(image, untouched), "the base is not written to"
            image, allowed = result, allowed | region.support
    assert image.dtype == np.uint8 and image.shape == pristine.shape
    assert np.array_equal(image[~allowed], pristine[~allowed])
    assert outside_digest(image, allowed) == outside_digest(pristine, allowed)
    if protected is not None:
        assert np.array_equal(image[protected], pristine[protected])


def test_the_crop_is_pasted_where_it_was_taken_from():
    base, painted = noise((20, 30)), noise((8, 16), 1)
    weights = np.zeros((20, 30))
    weights[6:10, 5:20] = 255
    result = composite(base, painted, region_of(weights, Box(4, 4, 20, 12), (16, 8)), match_colors=False)
    assert np.array_equal(result[6:10, 5:20], painted[2:6, 1:16])


def test_weights_are_shares_of_the_painted_pixel():
    base, painted = np.full((1, 4, 3), 100, np.uint8), np.full((1, 4, 3), 200, np.uint8)
    weights = np.array([[0, 1, 128, 255]])
    assert composite(base, painted, region_of(weights), match_colors=False)[0, :, 0].tolist() == [
        100,
        100,
        150,
        200,
    ]


@pytest.mark.parametrize("size", [(64, 64), (8, 16), (13, 9)])
def test_a_crop_painted_at_any_size_comes_back_in_place(size):
    """A smooth picture survives the journey to the painter's size and back."""
    y, x = np.mgrid[0:24, 0:40]
    base = np.stack([4 * x, 6 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    box = Box(4, 2, 36, 20)
    weights = np.zeros((24, 40))
    weights[5:16, 8:30] = 255
    painted = resample(base[2:20, 4:36], size)
    result = composite(base, painted, region_of(weights, box, size), match_colors=False)
    assert np.abs(result.astype(int) - base).max() <= 4


def test_a_tint_of_the_painter_is_taken_out_by_the_ring():
    base = np.full((20, 20, 3), (90, 120, 150), np.uint8)
    weights = np.where(rectangle((20, 20), 6, 6, 14, 14), 255, 0)
    painted = base + np.array([9, -7, 4]).astype(np.uint8)
    assert np.array_equal(composite(base, painted, region_of(weights)), base)
    kept = composite(base, painted, region_of(weights), match_colors=False)
    assert np.array_equal(kept[8, 8], painted[8, 8])


def test_what_is_painted_inside_does_not_count_as_a_tint_and_a_tint_is_small():
    base = np.full((20, 20, 3), 100, np.int32)
    support = rectangle((20, 20), 2, 2, 18, 18)  # more pixels than its ring
    other = base.copy()
    other[support] = 250
    assert color_shift(base, other, support).tolist() == [0, 0, 0]
    assert color_shift(base, base + 100, support).tolist() == [-24, -24, -24]
    assert color_shift(base, base + 9, np.ones((20, 20), bool)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "painted", [np.zeros((8, 9, 3), np.uint8), np.zeros((8, 8, 3)), np.zeros((8, 8), np.uint8)]
)
def test_a_crop_of_another_size_or_type_is_the_painters_fault(painted):
    with pytest.raises(ModelError, match="for a crop of 8x8"):
        composite(noise((20, 20)), painted, region_of(np.zeros((20, 20)), Box(0, 0, 8, 8), (8, 8)))


# --- the proof ----------------------------------------------------------------------------------------


@quick
@given(st.integers(0, 19), st.integers(0, 29), st.integers(0, 2))
def test_the_digest_sees_every_bit_outside_and_none_inside(y, x, channel):
    image, support = noise((20, 30)), rectangle((20, 30), 5, 5, 20, 12)
    changed = image.copy()
    changed[y, x, channel] ^= 1
    assert (outside_digest(changed, support) == outside_digest(image, support)) == support[y, x]


def test_the_digest_is_bound_to_the_support_and_the_shape():
    image = np.zeros((4, 6, 3), np.uint8)
    digests = {
        outside_digest(image, rectangle((4, 6), 0, 0, 2, 2)),
        outside_digest(image, rectangle((4, 6), 1, 0, 3, 2)),
        outside_digest(image.reshape(6, 4, 3), rectangle((6, 4), 0, 0, 2, 2)),
    }
    assert len(digests) == 3
    untouched = [np.zeros(shape, bool) for shape in ((4, 6), (6, 4))]
    assert outside_digest(image, untouched[0]) != outside_digest(image.reshape(6, 4, 3), untouched[1])
    alpha = np.dstack([image, np.full((4, 6), 255, np.uint8)])
    assert outside_digest(alpha, np.zeros((4, 6), bool)) != outside_digest(image, np.zeros((4, 6), bool))
    with pytest.raises(InvalidInput):
        outside_digest(image, np.zeros((6, 4), bool))


# --- who painted what ---------------------------------------------------------------------------------


def test_the_source_map_names_the_last_painter_of_every_pixel():
    first, second = Source(1, 0, 0, 11, "m", "a"), Source(2, 1, 3, 12, "m", "b")
    pristine = SourceMap.pristine((4, 4))
    drawn = pristine.with_region(rectangle((4, 4), 0, 0, 3, 3), first)
    drawn = drawn.with_region(rectangle((4, 4), 2, 2, 4, 4), second)
    assert drawn.layers.tolist() == [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 2, 2], [0, 0, 2, 2]]
    assert drawn.layers.dtype == np.uint16 and not pristine.painted.any()
    assert int(drawn.painted.sum()) == 12
    described = drawn.describe()
    assert [(d["layer"], d["pixels"], d["seed"]) for d in described] == [(1, 8, 11), (2, 4, 12)]


def test_planned_regions_paint_their_support():
    (region,) = plan_regions(
        [finding(rectangle((40, 40), 10, 10, 20, 20))], (40, 40), RegionSettings(), PaintingSize(16, 16)
    ).regions
    base = np.zeros((40, 40, 3), np.uint8)
    result = composite(base, np.full((16, 16, 3), 255, np.uint8), region, match_colors=False)
    assert np.array_equal(result[..., 0] > 0, region.support)

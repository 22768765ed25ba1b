import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from controller import masks

some_masks = array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(lambda shape: arrays(bool, shape))


def spot(*rows: str):
    return np.array([[character == "#" for character in row] for row in rows])


@settings(deadline=None, max_examples=60)
@given(some_masks, st.floats(0, 15))
def test_distance_is_the_distance_to_the_nearest_pixel(mask, limit):
    points = np.argwhere(mask)
    for (y, x), found in np.ndenumerate(masks.distance(mask, limit)):
        true = min((np.hypot(y - py, x - px) for py, px in points), default=np.inf)
        assert found == true or (found == np.inf and true > limit - 1e-9)


def test_likeness_of_masks():
    a, b = spot("####...."), spot("..######")
    assert masks.iou(a, b) == 2 / 8
    assert masks.inside(a, b) == 2 / 4 and masks.inside(b, a) == 2 / 6
    empty = np.zeros_like(a)
    assert masks.iou(empty, empty) == masks.inside(empty, a) == 0


def test_a_region_is_known_again_when_it_moved_or_shrank_but_not_when_a_large_one_swallows_it():
    old = spot("..####....")
    assert masks.same_region(spot("...####..."), old)
    assert masks.same_region(spot("...#......"), old)
    assert not masks.same_region(spot("......####"), old)
    assert not masks.same_region(old, spot("...#......"))


def test_neighbors_by_corner_touch_and_a_gap_of_one_pixel_does_not():
    corner = spot("#..", "...", "...")
    assert masks.touching(corner, spot("...", ".#.", "..."))
    assert not masks.touching(corner, spot("..#", "...", "..#"))


@settings(deadline=None, max_examples=60)
@given(some_masks)
def test_parts_cover_the_mask_and_do_not_touch(mask):
    parts = masks.components(mask)
    assert np.array_equal(np.sum(parts, axis=0, dtype=int) if parts else np.zeros(mask.shape), mask)
    assert not any(masks.touching(a, b) for i, a in enumerate(parts) for b in parts[:i])


def test_every_part_is_connected():
    ring = spot("#####", "#...#", "#.#.#", "#...#", "#####")
    assert [int(part.sum()) for part in masks.components(ring)] == [16, 1]
    assert [int(part.sum()) for part in masks.components(spot("#.#.#", ".#.#.", "....."))] == [5]
    assert [int(part.sum()) for part in masks.components(spot("#.#", "#.#", "###"))] == [7]


def test_parts_within_reach_are_one():
    mask = spot("##..#.....#")
    assert len(masks.components(mask)) == 3
    assert [int(part.sum()) for part in masks.components(mask, reach=1)] == [3, 1]

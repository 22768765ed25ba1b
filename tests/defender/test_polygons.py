"""Masks to polygons and back: nothing is lost, nothing counts twice."""

import numpy as np
import pytest

from contracts.records import Box
from defender.polygons import area, mask_of_boxes, mask_of_polygons, outlined_mask, polygons_of_mask

SQUARE = [2, 1, 6, 1, 6, 5, 2, 5]


def test_a_polygon_on_pixel_edges_covers_its_pixels():
    mask = mask_of_polygons([SQUARE], (8, 9))
    assert mask.sum() == 16 and mask[1:5, 2:6].all()
    assert area(SQUARE) == 16 == area(SQUARE[::-1])


def test_overlapping_polygons_count_once():
    mask = mask_of_polygons([SQUARE, [4, 3, 8, 3, 8, 7, 4, 7]], (8, 9))
    assert mask.dtype == bool and mask.sum() == 16 + 16 - 4


def test_a_polygon_beyond_the_border_is_cut_there():
    assert mask_of_polygons([[-3.2, -3.2, 20.1, -3.2, 20.1, 20.1, -3.2, 20.1]], (8, 9)).all()
    assert not mask_of_polygons([[1e12, 1e12, 2e12, 1e12, 1e12, 2e12]], (8, 9)).any()


@pytest.mark.parametrize("polygon", [[3, 3], [3, 3, 6, 3], [3, 3, 6, 3, 3, 3]])
def test_polygons_without_an_inside_cover_nothing(polygon):
    assert not mask_of_polygons([polygon], (8, 9)).any()
    assert area(polygon) == 0


def test_outlines_belong_to_a_filled_polygon():
    assert outlined_mask([SQUARE], (8, 9)).sum() == 25
    assert outlined_mask([[-5, -5, 30, -5, 30, 30, -5, 30]], (8, 9)).all()


def test_boxes():
    mask = mask_of_boxes([Box(-2, 1, 3, 3), Box(2, 2, 4, 99)], (5, 6))
    assert mask.sum() == 6 + 6 - 1


@pytest.mark.parametrize("seed", range(40))
def test_every_mask_comes_back(seed):
    """Noise of all densities: diagonal touches, holes, islands in holes, borders."""
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 14, 2)) < rng.random()
    assert np.array_equal(mask_of_polygons(polygons_of_mask(mask), mask.shape), mask)


def test_smooth_shapes_are_few_polygons():
    y, x = np.mgrid[:64, :64]
    disc = (x - 30) ** 2 + (y - 25) ** 2 < 200
    assert len(polygons_of_mask(disc)) == 1
    ring = disc & ((x - 30) ** 2 + (y - 25) ** 2 > 60)
    again = mask_of_polygons(polygons_of_mask(ring), ring.shape)
    assert np.array_equal(again, ring)
    assert polygons_of_mask(np.zeros((4, 4), bool)) == []

import numpy as np
import pytest
from region_samples import rectangle

from controller.seams import seam

SHAPE = (40, 40)
HARD = np.where(rectangle(SHAPE, 10, 10, 30, 30), 255, 0).astype(np.uint8)


def texture(seed=0, low=90, high=130):
    return np.random.default_rng(seed).integers(low, high, (*SHAPE, 3), np.uint8)


def test_a_flat_patch_on_a_flat_ground_shows_by_its_difference():
    image = np.full((*SHAPE, 3), 100, np.uint8)
    assert seam(image, HARD) == 0
    image[HARD > 0, 2] = 130  # one channel is enough
    assert seam(image, HARD) == pytest.approx(30)


def test_the_same_texture_on_both_sides_is_no_seam_however_rough():
    image = texture()
    assert abs(seam(image, HARD)) < 3
    shifted = image.copy()
    shifted[HARD > 0] += 40
    assert seam(shifted, HARD) > 15


def test_a_step_at_the_inner_end_of_a_feather_is_found_too():
    weights = np.where(HARD > 0, 255, 0).astype(np.uint8)
    weights[8:32, 8:32] = np.maximum(weights[8:32, 8:32], 100)
    image = np.full((*SHAPE, 3), 100, np.uint8)
    image[HARD > 0] = 140
    assert seam(image, weights) > 30


def test_an_edge_elsewhere_does_not_count():
    image = np.full((*SHAPE, 3), 100, np.uint8)
    image[18:22, 18:22] = 250
    image[:3] = 0
    assert seam(image, HARD) == 0


@pytest.mark.parametrize("value", [0, 255])
def test_a_region_without_an_edge_has_no_seam(value):
    assert seam(texture(), np.full(SHAPE, value, np.uint8)) == 0


def test_a_single_row_and_a_single_pixel_can_be_measured():
    image = np.array([[[0, 0, 0], [0, 0, 0], [50, 0, 0]]], np.uint8)
    assert seam(image, np.array([[0, 0, 255]], np.uint8)) == 50
    assert seam(image[:, :1], np.array([[255]], np.uint8)) == 0


@pytest.mark.parametrize("level", [1, 128, 255])
def test_a_step_shows_wherever_along_the_feather_it_lies(level):
    weights = np.zeros((40, 40), np.uint8)
    for inset, value in ((6, 60), (12, 160), (17, 255)):
        weights[inset:-inset, inset:-inset] = value
    image = np.full((40, 40, 3), 100, np.uint8)
    image[weights >= level] = 130
    assert seam(image, weights) > 20
    assert seam(np.full_like(image, 100), weights) == 0

"""Pictures as the published scorers see them."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow

SIZES = [(224, 224), (256, 300), (301, 227), (230, 511), (100, 61), (7, 900), (1024, 768)]


def picture(height, width):
    return np.random.default_rng(height + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_the_cut_equals_transformers_own(size):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    from controller.scorers.preprocessing import Preprocessing

    image = picture(*size)
    known = CLIPImageProcessorPil()(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(Preprocessing(224, "shortest")([image])[0].numpy(), known, atol=1e-6)


@pytest.mark.parametrize(("excess", "floor", "even"), [(0, 0, 0), (1, 0, 0), (2, 1, 1), (3, 1, 2), (5, 2, 2)])
def test_an_odd_excess_is_halved_as_each_original_does_it(excess, floor, even):
    from controller.scorers.preprocessing import Preprocessing

    image = np.zeros((8, 8 + excess, 3), np.uint8)
    image[:] = np.arange(8 + excess, dtype=np.uint8)[None, :, None]
    for center, first in (("floor", floor), ("even", even)):
        made = Preprocessing(8, "shortest", True, (0, 0, 0), (1 / 255,) * 3, center)([image])[0]
        assert made[0, 0].round().int().tolist() == list(range(first, first + 8))


def test_the_options_name_what_changes_a_score():
    from controller.scorers.preprocessing import Preprocessing

    assert Preprocessing(224, "longest", False).options() == {
        "size": 224,
        "fit": "longest",
        "antialias": False,
    }
    assert Preprocessing(224, "shortest", center="even").options() == {
        "size": 224,
        "fit": "shortest",
        "center": "even",
    }


def test_pictures_thinner_than_a_pixel_after_resizing_are_still_pictures():
    from controller.scorers.preprocessing import Preprocessing

    for fit in ("longest", "shortest"):
        made = Preprocessing(16, fit)([picture(1, 200), picture(200, 1)])
        assert made.shape == (2, 3, 16, 16) and bool(made.isfinite().all())

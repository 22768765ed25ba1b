"""What is noisy all over is smoothed before the defender looks; everything else stays to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from defender.checkpoint import Checkpoint, Thresholds
from defender.denoising import SMALLEST, denoised, noise_level
from defender.evaluation.perturbations import blur, jpeg, noise
from defender.legion_defender import LegionDefender
from tabletop.held_out import RenderedScenes

LIMIT = 0.03


@pytest.fixture(scope="module")
def renders():
    """Clean and flawed in turn, as rendered and after the autoencoder."""
    samples = RenderedScenes(6, "validation")
    return [samples[index].image for index in range(len(samples))]


def apart(a, b):
    """Root mean square difference, 0..255."""
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


def test_no_render_is_touched_and_neither_is_compression_or_blur(renders):
    for picture in renders:
        for seen in (picture, jpeg(picture, "", 20), blur(picture, "", 5), blur(picture, "", 15)):
            assert denoised(seen, LIMIT) is seen


@pytest.mark.parametrize("sigma", [0.1, 0.2, 0.3])
def test_a_noisy_picture_comes_nearer_to_what_it_was(renders, sigma):
    for number, picture in enumerate(renders):
        noisy = noise(picture, str(number), sigma)
        # Clipping takes away from what is estimated, the more the noisier.
        assert 0.7 * sigma < noise_level(noisy) < 1.1 * sigma
        clear = denoised(noisy, LIMIT)
        assert clear.dtype == np.uint8 and clear.shape == picture.shape
        assert apart(clear, picture) < 0.6 * apart(noisy, picture)
        assert np.array_equal(clear, denoised(noisy, LIMIT))
        assert denoised(noisy, 1.0) is noisy


def test_a_noisy_patch_is_left_for_the_defender_to_find(renders):
    picture = renders[0].copy()
    noisy = noise(picture, "patch", 0.3)
    picture[16:48, 16:48] = noisy[16:48, 16:48]
    assert denoised(picture, LIMIT) is picture


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (SMALLEST - 1, 40), (SMALLEST, SMALLEST), (17, 300)])
def test_any_size_will_do(shape):
    picture = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert denoised(picture, LIMIT).shape == picture.shape
    assert (denoised(picture, LIMIT) is picture) == (min(shape) < SMALLEST)
    assert noise_level(np.full((40, 40, 3), 7, np.uint8)) == pytest.approx(0, abs=1e-9)


@pytest.mark.slow
def test_the_defender_looks_at_the_denoised_picture(model, dialog, renders):
    """Its threshold alone decides, and what scaling down averages away anyway is left to that."""
    noisy = noise(renders[0], "", 0.3)
    plain = LegionDefender(Checkpoint(model, dialog, Thresholds(), "digest"))
    quiet = plain.at(max_noise=LIMIT)
    looks = ((quiet, noisy), (plain, denoised(noisy, LIMIT)), (plain, noisy))
    inclined = [defender.inclinations([picture])[0][0] for defender, picture in looks]
    assert inclined[0] == inclined[1] != inclined[2]
    generated = [defender.diagnose([picture])[0].synthetic_probability for defender, picture in looks]
    assert generated[0] == generated[1] != generated[2]
    twice = 2 * model.config.sam.image_size + 1
    large = np.random.default_rng(4).integers(0, 256, (twice, twice, 3), dtype=np.uint8)
    assert quiet.inclinations([large])[0] == plain.inclinations([large])[0]

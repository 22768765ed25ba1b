"""Other views of annotated pictures."""

import numpy as np

from contracts.records import Finding
from defender.datasets import Sample
from defender.denoising import denoised
from defender.views import Denoised, Reframed, Worn, draw_window, seen_in


def sample(box, value=200):
    """A dark picture with a bright square that is the artifact."""
    left, top, right, bottom = box
    mask = np.zeros((64, 64), bool)
    mask[top:bottom, left:right] = True
    picture = np.where(mask[..., None], value, 20).repeat(3, axis=2).astype(np.uint8)
    return Sample(picture, (Finding(mask, "the square", "it is bright", "distortion", 1.0),), True, (3, 1))


def test_mask_and_picture_stay_together():
    seen = seen_in(sample((20, 24, 40, 40)), (10, 10, 50, 50))
    mask = seen.findings[0].mask
    assert seen.image.shape == (64, 64, 3) and mask.shape == (64, 64)
    bright = seen.image[..., 0] > 110
    assert (bright & mask).sum() / (bright | mask).sum() > 0.95
    assert mask.sum() > 1.5 * sample((20, 24, 40, 40)).findings[0].mask.sum()  # 40 pixels became 64


def test_a_window_through_an_artifact_is_no_view():
    assert seen_in(sample((20, 24, 40, 40)), (30, 10, 64, 44)) is None


def test_an_artifact_outside_is_not_told():
    assert seen_in(sample((0, 0, 8, 8)), (20, 20, 60, 60)).findings == ()


def test_what_a_window_changes_is_not_told():
    seen = seen_in(sample((20, 24, 40, 40)), (10, 10, 50, 50))
    assert seen.is_real is None and seen.attributes == (-1, -1)


def test_windows_are_inside_and_of_the_pictures_proportions():
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = draw_window(rng, 60, 120)
        assert 0 <= left < right <= 120 and 0 <= top < bottom <= 60
        assert abs((right - left) / (bottom - top) - 2) < 0.1


def test_an_index_always_means_the_same_view_and_the_share_is_kept():
    samples = [sample((20 + i % 5, 24, 40, 40)) for i in range(200)]
    one, other = Reframed(samples, 0.5, seed=1), Reframed(samples, 0.5, seed=1)
    changed = [one[i] is not samples[i] for i in range(200)]
    assert all((one[i].image == other[i].image).all() for i in range(200))
    assert 0.3 < np.mean(changed) < 0.7
    assert not any(Reframed(samples, 0.0, seed=1)[i] is not samples[i] for i in range(20))


def test_neighbors_get_the_same_window():
    clean, flawed = sample((20, 24, 40, 40)), sample((20, 24, 40, 40), value=180)
    views = Reframed([clean, flawed] * 50, 1.0, seed=2)
    for i in range(0, 100, 2):
        assert (views[i].findings[0].mask == views[i + 1].findings[0].mask).all()


def test_some_are_worn_always_alike_and_neighbors_in_the_same_way():
    data = [sample((20, 24, 40, 40)), sample((20, 24, 40, 40), value=120)] * 40
    views = Worn(data, 0.5, seed=3)
    changed = [not np.array_equal(views[i].image, data[i].image) for i in range(80)]
    assert 20 < sum(changed) < 60
    assert all(np.array_equal(views[i].image, views[i].image) for i in range(80))
    assert [views[i].is_real for i in range(80)] == [None if c else True for c in changed]
    assert changed[::2] == changed[1::2]


def test_what_is_worn_keeps_its_findings():
    whole = sample((20, 24, 40, 40))
    view = Worn([whole], 1.0, seed=0)[0]
    assert not np.array_equal(view.image, whole.image)
    assert view.findings == whole.findings and view.attributes == whole.attributes


def test_the_kind_of_damage_follows_the_odds():
    data = [sample((20, 24, 40, 40))] * 120
    size = data[0].image.size
    noisy = Worn(data, 1.0, seed=5, odds=(0, 1, 0))
    # Noise alone changes nearly every value of a flat picture.
    assert all((noisy[i].image != data[i].image).sum() > size / 2 for i in range(0, 120, 2))
    mixed = Worn(data, 1.0, seed=5)
    assert sum((mixed[i].image != data[i].image).sum() > size / 2 for i in range(0, 120, 2)) < 40


def test_noise_is_taken_out_as_the_defender_takes_it_out():
    data = [sample((20, 24, 40, 40))] * 8
    noisy = Worn(data, 1.0, seed=5, odds=(0, 1, 0))
    seen = Denoised(noisy, 0.03)
    assert len(seen) == 8
    for worn, clear in zip((noisy[i] for i in range(8)), (seen[i] for i in range(8)), strict=True):
        assert np.array_equal(clear.image, denoised(worn.image, 0.03))
        assert clear.findings == worn.findings and clear.is_real is worn.is_real
    assert Denoised(data, 0.03)[0].image is data[0].image

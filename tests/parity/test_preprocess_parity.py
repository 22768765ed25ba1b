"""Both encoders' inputs equal what the original preprocessing produced."""

import numpy as np
import pytest
import torch
from PIL import Image

from defender.preprocess import LONGEST, clip_pixels, sam_pixels, sam_size


@pytest.mark.parametrize("name", ["tall", "wide"])
def test_clip_and_sam_pixels(numbers, close, name):
    data = numbers("preprocess")
    image = data[f"{name}.u8"].numpy()
    height, width = image.shape[:2]
    for side in (1024, 512):
        assert list(sam_size(height, width, side)) == data[f"{name}.resize{side}_hw"].tolist()
    small, size = sam_pixels(image, 128, 128)
    close(small, data[f"{name}.sam128"])
    assert list(size) == list(data[f"{name}.resize128_u8"].shape[:2])
    expected = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
    assert torch.equal(torch.from_numpy(expected), data[f"{name}.resize128_u8"])
    large, _ = sam_pixels(image, 1024, 1024)
    close(large[:, ::8, ::8], data[f"{name}.sam1024_sub8"])
    assert large.double().sum().item() == pytest.approx(data[f"{name}.sam1024_sum"].item(), rel=1e-5)
    clip = clip_pixels(image, 336)
    close(clip[:, ::3, ::3], data[f"{name}.clip336"])
    assert clip.double().sum().item() == pytest.approx(data[f"{name}.clip336_sum"].item(), rel=1e-5)


@pytest.mark.parametrize("shape", [(60, 60 * LONGEST), (60 * LONGEST, 60)])
def test_long_pictures_lose_their_ends_before_they_are_scaled(shape):
    """Up to LONGEST nothing changes; beyond it the square is the same to rounding, without the memory."""
    rng = np.random.default_rng(0)
    at_the_limit = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    axis = int(np.argmax(shape))
    longer = np.concatenate([at_the_limit[::-1, ::-1]] * 2, axis=axis)
    middle = np.take(longer, range(30 * LONGEST, 90 * LONGEST), axis=axis)
    assert torch.equal(clip_pixels(longer, 32), clip_pixels(middle, 32))
    huge = np.zeros((1, 4_000_000, 3), np.uint8)
    assert clip_pixels(huge, 336).shape == (3, 336, 336)

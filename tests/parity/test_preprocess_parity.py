"""Both encoders' inputs equal what the original preprocessing produced."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from defender.preprocess import LONGEST, clip_pixels, sam_pixels, sam_size


def side_of(data, name, pattern):
    """The number in the names of a picture's tensors that fit a pattern, and the tensor's name."""
    found = [(int(m[1]), n) for n in data if (m := re.fullmatch(rf"{re.escape(name)}\.{pattern}", n))]
    assert found, pattern
    return found


def test_clip_and_sam_pixels(numbers, close):
    data = numbers("preprocess")
    names = [name.removesuffix(".u8") for name in data if name.endswith(".u8")]
    assert len(names) > 1
    for name in names:
        image = data[f"{name}.u8"].numpy()
        height, width = image.shape[:2]
        for side, tensor in side_of(data, name, r"resize(\d+)_hw"):
            assert list(sam_size(height, width, side)) == data[tensor].tolist()
        for side, tensor in side_of(data, name, r"sam(\d+)"):
            pixels, size = sam_pixels(image, side, side)
            close(pixels, data[tensor])
            resized = data[f"{name}.resize{side}_u8"]
            assert list(size) == list(resized.shape[:2])
            expected = np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))
            assert torch.equal(torch.from_numpy(expected), resized)
        for side, tensor in side_of(data, name, r"sam(\d+)_sub8"):
            pixels, _ = sam_pixels(image, side, side)
            close(pixels[:, ::8, ::8], data[tensor])
            total = data[f"{name}.sam{side}_sum"].item()
            assert pixels.double().sum().item() == pytest.approx(total, rel=1e-5)
        for side, tensor in side_of(data, name, r"clip(\d+)"):
            pixels = clip_pixels(image, side)
            close(pixels[:, ::3, ::3], data[tensor])
            total = data[f"{name}.clip{side}_sum"].item()
            assert pixels.double().sum().item() == pytest.approx(total, rel=1e-5)


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

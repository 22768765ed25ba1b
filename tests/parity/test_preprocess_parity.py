"""Both encoders' inputs equal what the original preprocessing produced."""

import numpy as np
import pytest
import torch
from PIL import Image

from defender.preprocess import clip_pixels, sam_pixels, sam_size


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

"""Files in which a person marks a part of a picture are read however they were drawn, or refused in words."""

import numpy as np
import pytest
from PIL import Image as Pillow

from contracts.errors import InvalidInput
from flows.files.mask_files import read_mask, read_protected

SHAPE = (6, 9)
NOISE = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
MASK = np.zeros(SHAPE, bool)
MASK[2:5, 3:7] = True
GRAY = np.where(MASK, 255, 0).astype(np.uint8)


def saved(path, pixels):
    Pillow.fromarray(pixels).save(path)
    return path


def layered(color, background=(0, 0, 0, 0)):
    layers = np.zeros((*SHAPE, 4), np.uint8)
    layers[:] = background
    layers[MASK] = (*color, 255)
    return Pillow.fromarray(layers)


@pytest.mark.parametrize(
    "mask",
    [
        Pillow.fromarray(MASK),
        Pillow.fromarray(GRAY),
        Pillow.fromarray(np.stack([GRAY] * 3, -1)),
        Pillow.fromarray(GRAY).convert("P"),
        Pillow.fromarray(GRAY).convert("LA"),
        Pillow.fromarray(np.where(MASK, 65535, 0).astype(np.uint16)),
        layered((255, 255, 255)),
        layered((255, 0, 0)),
        layered((255, 255, 255), (0, 0, 0, 255)),
    ],
    ids=[
        "1 bit",
        "gray",
        "RGB",
        "palette",
        "LA",
        "16 bit",
        "white on nothing",
        "red on nothing",
        "opaque RGBA",
    ],
)
def test_a_mask_may_be_drawn_in_any_way(tmp_path, mask):
    mask.save(tmp_path / "mask.png")
    assert np.array_equal(read_mask(tmp_path / "mask.png", SHAPE), MASK)


def test_a_soft_mask_counts_from_half_bright(tmp_path):
    soft = np.where(MASK, 255, 0).astype(np.uint8)
    soft[0, 0], soft[0, 1] = 127, 128
    found = read_mask(saved(tmp_path / "mask.png", soft), SHAPE)
    assert not found[0, 0] and found[0, 1]


def test_a_white_mask_means_everything(tmp_path):
    assert read_mask(saved(tmp_path / "mask.png", np.full(SHAPE, 255, np.uint8)), SHAPE).all()


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros(SHAPE, np.uint8), "is empty"),
        (np.full((4, 5), 255, np.uint8), "5x4 pixels and the picture 9x6"),
        (NOISE, "looks like a picture"),
    ],
    ids=["empty", "size", "picture"],
)
def test_what_is_no_mask_is_refused(tmp_path, pixels, words):
    with pytest.raises(InvalidInput, match=words):
        read_mask(saved(tmp_path / "mask.png", pixels), SHAPE)


def test_a_mask_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InvalidInput, match="mask cannot be used.*does not exist"):
        read_mask(tmp_path / "none.png", SHAPE)
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InvalidInput, match="mask cannot be used"):
        read_mask(tmp_path / "text.png", SHAPE)


def test_a_protected_area_may_be_empty_and_is_called_by_its_name(tmp_path):
    assert read_protected(saved(tmp_path / "none.png", np.zeros(SHAPE, np.uint8)), SHAPE) is None
    assert np.array_equal(read_protected(saved(tmp_path / "some.png", GRAY), SHAPE), MASK)
    with pytest.raises(InvalidInput, match="the protected area .* 5x4 pixels and the picture 9x6"):
        read_protected(saved(tmp_path / "small.png", np.full((4, 5), 255, np.uint8)), SHAPE)

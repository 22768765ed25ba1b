"""Files in which a person marks a part of a picture: what may change, what never may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from contracts.errors import InvalidInput
from contracts.records import Mask
from defender.image_files import read_image

BRIGHT = 128
GRAY_LEVELS = (40, 215)
MOST_GRAY = 0.25
"""A mask of which more than this share lies between the two levels is a picture given by mistake."""


def read_mask(path: Path, shape: tuple[int, int]) -> Mask:
    """The mask of an upright picture of `shape` (H, W): white is inside, black and transparent outside.

    1 bit, gray, color and palette will do, with or without transparency; what is at least half bright in any
    channel counts as white. Raises InvalidInput for a file that cannot be read, another size, a picture that
    is no mask, or a mask of nothing.
    """
    mask = _marked(path, shape, "the mask")
    if not mask.any():
        raise InvalidInput(f"the mask {path} is empty: paint white what is meant")
    return mask


def read_protected(path: Path, shape: tuple[int, int]) -> Mask | None:
    """The same of what never may change; None if that is nothing, which a program may well write."""
    mask = _marked(path, shape, "the protected area")
    return mask if mask.any() else None


def _marked(path: Path, shape: tuple[int, int], called: str) -> Mask:
    try:
        read_image(path)  # with all its checks
    except InvalidInput as error:
        raise InvalidInput(f"{called} cannot be used: {error}") from error
    levels = _levels(path)
    if levels.shape != shape:
        raise InvalidInput(
            f"{called} {path} has {levels.shape[1]}x{levels.shape[0]} pixels and the picture "
            f"{shape[1]}x{shape[0]}: make them the same size"
        )
    between = (levels > GRAY_LEVELS[0]) & (levels < GRAY_LEVELS[1])
    if between.mean() > MOST_GRAY:
        raise InvalidInput(
            f"{called} {path} looks like a picture, not a mask: paint white what is meant, the rest black"
        )
    return np.asarray(levels >= BRIGHT)


def _levels(path: Path) -> np.ndarray:
    """(H, W) upright brightness, 0..255, transparency on black."""
    with Pillow.open(path) as file:
        picture = ImageOps.exif_transpose(file)
        if picture.mode.startswith(("I", "F")):
            levels = np.asarray(picture, dtype=np.float64)
            return levels / (257 if levels.max(initial=0) > 255 else 1)
        black = Pillow.new("RGBA", picture.size, (0, 0, 0, 255))
        flat = Pillow.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
        return np.asarray(flat).max(axis=-1)

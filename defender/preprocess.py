"""Pictures into the two encoders: CLIP's centered square and SAM's padded canvas. PIL and torch only.

Pictures come in as uint8 (H, W, 3) RGB.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PILImage
from torch import Tensor

from contracts.records import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SAM_MEAN = (123.675, 116.28, 103.53)
SAM_STD = (58.395, 57.12, 57.375)
LONGEST = 32
"""Up to this ratio of its sides a picture is scaled whole, to the bit as upstream does."""


def clip_pixels(image: Image, size: int) -> Tensor:
    """CLIP's input (3, size, size): shortest side to `size` (bicubic), center crop, normalized.

    What a wide picture has near its ends is cut away, as upstream does; what is far beyond the square is cut
    away before it is scaled as well, or a picture of 64,000,000 x 1 pixels would not fit in any memory.
    """
    image = _without_ends(image)
    height, width = image.shape[:2]
    short, long = min(height, width), max(height, width)
    length = int(size * long / short)
    new_height, new_width = (size, length) if height <= width else (length, size)
    scaled = _resize(image, new_height, new_width, PILImage.Resampling.BICUBIC)
    top, left = (new_height - size) // 2, (new_width - size) // 2
    square = scaled[top : top + size, left : left + size].astype(np.float32) / np.float32(255)
    return _channels_first((square - _row(CLIP_MEAN)) / _row(CLIP_STD))


def sam_pixels(image: Image, size: int, resize_to: int) -> tuple[Tensor, tuple[int, int]]:
    """SAM's input (3, size, size), zero right of and below the picture; and the picture's (height, width)."""
    height, width = sam_size(image.shape[0], image.shape[1], resize_to)
    scaled = _resize(image, height, width, PILImage.Resampling.BILINEAR).astype(np.float32)
    canvas = torch.zeros(3, size, size)
    canvas[:, :height, :width] = _channels_first((scaled - _row(SAM_MEAN)) / _row(SAM_STD))
    return canvas, (height, width)


def sam_size(height: int, width: int, resize_to: int) -> tuple[int, int]:
    """(height, width) with the longest side scaled to `resize_to`, at least one pixel."""
    scale = resize_to / max(height, width)
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def _without_ends(image: Image) -> Image:
    """The middle of a picture that is more than LONGEST times as long as wide, else the picture itself."""
    height, width = image.shape[:2]
    most = LONGEST * min(height, width)
    top, left = max(0, height - most) // 2, max(0, width - most) // 2
    return image[top : top + most, left : left + most]


def _resize(image: Image, height: int, width: int, how: PILImage.Resampling) -> Image:
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(PILImage.fromarray(image).resize((width, height), how))


def _row(values: tuple[float, float, float]) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _channels_first(image: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))

"""Damage that pictures meet on their way: JPEG, noise and blur at the strengths of the paper's Table 10.

arXiv 2503.15264, appendix: JPEG quality 50, 35, 20; Gaussian noise of sigma 0.1, 0.2, 0.3 on pictures scaled
to 0..1, clipped; Gaussian blur with kernels of 5, 9, 15 pixels, sigma from the size as in OpenCV.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image as PILImage

from contracts.records import Image

AS_IT_IS = "none"


@dataclass(frozen=True)
class Perturbation:
    """One kind of damage at one strength."""

    name: str
    apply: Callable[[Image, str], Image]
    """Takes a picture and its name; the same name is always damaged alike."""


def jpeg(image: Image, _name: str, quality: int) -> Image:
    """Compressed and read again, colors at half resolution, quality 1..95."""
    stored = io.BytesIO()
    PILImage.fromarray(image).save(stored, "JPEG", quality=quality, subsampling="4:2:0")
    with PILImage.open(stored) as picture:
        return np.array(picture.convert("RGB"))


def noise(image: Image, name: str, sigma: float) -> Image:
    """With independent normal noise on every value of 0..1, seeded by the picture's name."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), round(1000 * sigma)])
    values = image / 255 + rng.normal(0, sigma, image.shape)
    return np.round(255 * values.clip(0, 1)).astype(np.uint8)


def blur(image: Image, _name: str, size: int) -> Image:
    """Convolved with a Gaussian of `size` taps (odd) in both directions; edges are mirrored."""
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    reach = size // 2
    weights = np.exp(-((np.arange(size) - reach) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    values = image.astype(float)
    for axis in (0, 1):
        around = [(reach, reach) if a == axis else (0, 0) for a in range(3)]
        # A picture of one pixel has nothing to mirror; its edge is repeated.
        padded = np.pad(values, around, "reflect" if values.shape[axis] > 1 else "edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=axis)
        values = windows @ weights
    return np.round(values).clip(0, 255).astype(np.uint8)


def _unchanged(image: Image, _name: str) -> Image:
    return image


PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation(AS_IT_IS, _unchanged),
    *(Perturbation(f"JPEG {q}", partial(jpeg, quality=q)) for q in (50, 35, 20)),
    *(Perturbation(f"noise {s}", partial(noise, sigma=s)) for s in (0.1, 0.2, 0.3)),
    *(Perturbation(f"blur {k}", partial(blur, size=k)) for k in (5, 9, 15)),
)
"""All settings of the paper's table, the undamaged picture first."""

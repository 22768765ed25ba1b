"""Grain taken out of a picture before the defender looks: noise that a network never saw looks like artifacts
to it, or hides them.

The level is estimated from the picture alone, as the median of its finest diagonal wavelet coefficients
(Donoho and Johnstone 1994), which a noisy patch does not move: such a patch stays for the defender to find.
What is noisy all over is smoothed with little total variation (Chambolle 2004), and then averaged with
patches that look alike (non-local means, Buades et al. 2005). Together they come nearer to the clean picture
than either alone (docs/decisions.md).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, estimate_sigma

from contracts.records import Image

SMALLEST = 16
"""Fewer pixels than this on a side say too little of noise."""
_VARIATION, _LIKENESS = 0.6, 0.3
"""Strengths of the two steps, in units of the noise; chosen on validation scenes."""
_PATCH, _REACH = 5, 11


def noise_level(image: Image) -> float:
    """Standard deviation of a picture's noise, about 0..1, on a scale on which white is 1.

    It comes out a little low where much of the noise was clipped. 0 for pictures under SMALLEST pixels.
    """
    if min(image.shape[:2]) < SMALLEST:
        return 0.0
    return float(estimate_sigma(image / 255, channel_axis=-1, average_sigmas=True))


def denoised(image: Image, max_noise: float) -> Image:
    """The picture (uint8 RGB) as it is up to `max_noise` (see `noise_level`), smoothed if it is noisier."""
    sigma = noise_level(image)
    if sigma <= max_noise:
        return image
    values: NDArray[np.float32] = image.astype(np.float32) / np.float32(255)
    values = denoise_tv_chambolle(values, weight=_VARIATION * sigma, channel_axis=-1)
    values = denoise_nl_means(
        values,
        patch_size=_PATCH,
        patch_distance=_REACH,
        h=_LIKENESS * sigma,
        fast_mode=True,
        channel_axis=-1,
    )
    return np.round(255 * values.clip(0, 1)).astype(np.uint8)

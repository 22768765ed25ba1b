"""Other views of annotated pictures: closer with the subject elsewhere, and worn by what pictures meet.

A defender that has only seen one framing takes a cut-off or enlarged subject for a flaw, and finds less in
the tiles of a larger picture (defender/tiling.py). A view is a window of the picture, enlarged to its size;
no artifact is cut in two by its edge. And one that has only seen pristine pictures takes compression, noise
and blur for artifacts, or sees none through them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from contracts.records import Finding, Image
from defender.datasets import Sample, Samples
from defender.denoising import denoised
from defender.evaluation.perturbations import blur, jpeg, noise

SMALLEST = 0.55
"""Side of the smallest window, as a share of the picture's."""
KEPT = 0.9
"""An artifact of which at least this share is in the window is seen whole."""
LOST = 0.02
"""One of which at most this share is in the window is not seen."""
TRIES = 6
Odds: TypeAlias = tuple[float, float, float]


class Reframed:
    """A data set of which some samples are seen in a window; an index always means the same view.

    Pictures that are neighbors two by two (a clean and a flawed one of a scene) get the same window, where
    it suits both. What a window changes is no longer told: whether the picture is a photograph (enlarging
    blurs a decoder's trace), and the attributes.
    """

    def __init__(self, samples: Samples, share: float, seed: int) -> None:
        self._samples, self._share, self._seed = samples, share, seed

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        rng = np.random.default_rng([self._seed, index // 2])
        if rng.random() >= self._share:
            return sample
        for _ in range(TRIES):
            seen = seen_in(sample, draw_window(rng, *sample.image.shape[:2]))
            if seen is not None:
                return seen
        return sample


class Worn:
    """A data set of which some samples are compressed, noisy or blurred, up to the strengths of the paper's
    Table 10; an index always means the same damage, and neighbors two by two get the same.

    `odds` are those of compression, noise and blur. Whether the picture is a photograph is no longer told:
    damage hides a decoder's trace.
    """

    def __init__(self, samples: Samples, share: float, seed: int, odds: Odds = (1, 1, 1)) -> None:
        self._samples, self._share, self._seed, self._odds = samples, share, seed, odds

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        rng = np.random.default_rng([self._seed, index // 2])
        if rng.random() >= self._share:
            return sample
        return replace(sample, image=worn(sample.image, str(index), rng, self._odds), is_real=None)


class Denoised:
    """A data set as a defender with this `max_noise` sees it: noisy pictures denoised."""

    def __init__(self, samples: Samples, max_noise: float) -> None:
        self._samples, self._max_noise = samples, max_noise

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        sample = self._samples[index]
        return replace(sample, image=denoised(sample.image, self._max_noise))


def worn(image: Image, name: str, rng: np.random.Generator, odds: Odds = (1, 1, 1)) -> Image:
    """The picture (H, W, 3) with one kind of damage; `name` seeds the noise."""
    match int(rng.choice(3, p=np.array(odds) / sum(odds))):
        case 0:
            return jpeg(image, name, int(rng.integers(15, 76)))
        case 1:
            return noise(image, name, float(rng.uniform(0.02, 0.3)))
        case _:
            return blur(image, name, int(rng.choice([3, 5, 7, 9, 11, 13, 15])))


Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""


def draw_window(rng: np.random.Generator, height: int, width: int) -> Window:
    """A window of the picture's proportions, anywhere in it."""
    scale = rng.uniform(SMALLEST, 0.95)
    high, wide = max(1, round(height * scale)), max(1, round(width * scale))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    return left, top, left + wide, top + high


def seen_in(sample: Sample, window: Window) -> Sample | None:
    """The sample as seen in a window, at its picture's size; None if the window cuts through an artifact."""
    left, top, right, bottom = window
    size = sample.image.shape[1], sample.image.shape[0]
    findings: list[Finding] = []
    for finding in sample.findings:
        inside = finding.mask[top:bottom, left:right]
        share = inside.sum() / max(1, finding.mask.sum())
        if LOST < share < KEPT:
            return None
        if share >= KEPT:
            findings.append(replace(finding, mask=_resized(inside.astype(np.uint8) * 255, size) > 127))
    return Sample(
        _resized(sample.image[top:bottom, left:right], size),
        tuple(findings),
        None,
        tuple(-1 for _ in sample.attributes),
    )


def _resized(values: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.asarray(Pillow.fromarray(values).resize(size, Pillow.Resampling.BICUBIC))

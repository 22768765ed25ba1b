"""What training and evaluation read: pictures with all that is true of them, and how they become a batch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from contracts.records import CATEGORIES, Finding, Image
from defender.answers import compose
from defender.config import LegionConfig
from defender.model import Inputs, Targets
from defender.preprocess import clip_pixels, sam_pixels
from defender.text import Dialog, pad_conversations


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture and what is true of it."""

    image: Image
    findings: tuple[Finding, ...]
    """In the order in which an answer should name them; none for a clean picture."""
    is_real: bool | None = None
    """Photograph (True), generated (False), or not known."""
    attributes: tuple[int, ...] = ()
    """Class numbers of what the picture shows, for heads that only warm up the towers; -1 is not known."""
    caption: str = ""
    """The data set's own text about all findings, where it has one."""
    answer: str = ""
    """What to learn to say, with one [SEG] per finding in their order; composed of the findings if empty."""


_LENGTH_STEP = 16
"""Texts are padded to a multiple of this: a CPU compiles its fast kernels anew for every new length."""


class Samples(Protocol):
    """A map-style data set: an index always means the same sample."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


class Chained:
    """Data sets one after the other; one that is given twice counts twice."""

    def __init__(self, *parts: Samples) -> None:
        self._parts = parts
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Sample:
        which = bisect_right(self._ends, index)
        if index < 0 or which == len(self._parts):
            raise IndexError(index)
        return self._parts[which][index - (self._ends[which - 1] if which else 0)]


@dataclass(frozen=True)
class Batch:
    """Samples made ready for the network."""

    inputs: Inputs
    targets: Targets
    dense_B3HW: Tensor
    """Union of the masks by category, on SAM's canvas at the size of its low-resolution masks."""
    category_M: Tensor
    """Place in CATEGORIES of each mask, all pictures in a row."""
    is_real_B: Tensor
    """1 real, 0 generated, -1 not known."""
    attributes_BA: Tensor


class Collator:
    """Samples -> Batch, for one checkpoint's sizes and words."""

    def __init__(self, config: LegionConfig, dialog: Dialog, first_token_weight: float = 1.0) -> None:
        self.config, self.dialog, self.first_token_weight = config, dialog, first_token_weight

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        config = self.config
        conversations = [self.dialog.with_answer(s.answer or compose(s.findings)) for s in samples]
        ids, labels, attention = pad_conversations(conversations, config.tokens.pad, _LENGTH_STEP)
        weight = torch.ones(labels.shape)
        weight[:, len(self.dialog.prompt)] = self.first_token_weight
        sam = [sam_pixels(s.image, config.sam.image_size, config.sam.resize_to) for s in samples]
        resized = tuple(size for _, size in sam)
        return Batch(
            Inputs(
                torch.stack([clip_pixels(s.image, config.vision.image_size) for s in samples]),
                torch.stack([pixels for pixels, _ in sam]),
                ids,
                attention,
                resized,
                tuple((s.image.shape[0], s.image.shape[1]) for s in samples),
            ),
            Targets(labels, tuple(masks_of(s) for s in samples), weight),
            torch.stack([self._dense(s, size) for s, size in zip(samples, resized, strict=True)]),
            torch.tensor(
                [CATEGORIES.index(f.category) for s in samples for f in s.findings], dtype=torch.long
            ),
            torch.tensor([-1 if s.is_real is None else int(s.is_real) for s in samples]),
            torch.tensor([s.attributes for s in samples]).reshape(len(samples), -1),
        )

    def _dense(self, sample: Sample, resized: tuple[int, int]) -> Tensor:
        sam = self.config.sam
        low = 4 * sam.grid_size
        masks = np.zeros((1, len(CATEGORIES), *sample.image.shape[:2]), np.float32)
        for finding in sample.findings:
            masks[0, CATEGORIES.index(finding.category)] = np.maximum(
                masks[0, CATEGORIES.index(finding.category)], finding.mask
            )
        if resized == (low, low) == sample.image.shape[:2]:
            return torch.from_numpy(masks[0])
        shown = torch.nn.functional.interpolate(torch.from_numpy(masks), resized, mode="area")
        canvas = torch.zeros(1, len(CATEGORIES), sam.image_size, sam.image_size)
        canvas[..., : resized[0], : resized[1]] = shown
        return torch.nn.functional.interpolate(canvas, (low, low), mode="area")[0]


def masks_of(sample: Sample) -> Tensor:
    """(M, H, W) float masks of a sample's findings, 0 or 1."""
    if not sample.findings:
        return torch.zeros(0, *sample.image.shape[:2])
    return torch.from_numpy(np.stack([f.mask for f in sample.findings])).float()

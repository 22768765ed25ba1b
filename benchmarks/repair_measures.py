"""What a repair is worth, from the truth, the record of the run and the judge's word. No model in here.

PSNR and SSIM compare a picture with the true clean render inside a mask only. An artifact counts as gone only
if neither the defender finds anything that overlaps it nor the judge sees its category.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contracts.intervals import Interval
from contracts.records import (
    CATEGORIES,
    Category,
    Diagnosis,
    Finding,
    Image,
    Mask,
    Revision,
    RevisionRequest,
    Run,
)
from controller import masks
from controller.region_gate import KNOWN_INSIDE, KNOWN_IOU
from tabletop.flaws import Pair

SEEN = 0.5
"""The judge sees a category from this probability on."""
VISIBLE = 16
"""Levels of 255 from which on a pixel that should not have changed counts as damaged."""
IDENTICAL = 99.0
"""PSNR in decibels of equal pictures, which have none."""
_RADIUS, _SIGMA = 5, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


@dataclass(frozen=True)
class Truth:
    """An aim that knows what was injected: all of it first, later what is still found of it."""

    injected: Mapping[str, Sequence[Finding]]
    """By run id; nothing for a run that is not there."""
    every_round: bool = False
    """Whether all of it is repaired in every round."""
    name = "truth"

    def findings(self, run_id: str, round_index: int, diagnosis: Diagnosis) -> Sequence[Finding]:
        """See the class."""
        wanted = self.injected.get(run_id, ())
        if self.every_round or round_index == 1:
            return wanted
        return [f for f in wanted if any(overlap(d.mask, f.mask) for d in diagnosis.findings)]


@dataclass(frozen=True)
class UpstreamWords:
    """A PromptModifier that says what LEGION's own inpainting script says: the flaw, in the negative."""

    name = "upstream's words"

    def revise(self, requests: Sequence[RevisionRequest]) -> list[Revision]:
        """The explanations alone; the scene where there is none."""
        return [Revision(self._words(request)) for request in requests]

    def describe(self) -> Mapping[str, object]:
        """Its name."""
        return {"name": self.name}

    def _words(self, request: RevisionRequest) -> str:
        said = " ".join(finding.explanation for finding in request.findings)
        if not said:
            return request.user_prompt
        return (
            f"Try to avoid the problem: {said} And make every effort to maintain the photorealism and "
            "reasonableness of the entire image, as well as consistency and coherence in style, lighting, "
            "and shadows."
        )


@dataclass(frozen=True)
class Artifact:
    """One injected flaw, before and after."""

    category: Category
    kind: str
    defender_before: bool
    judge_before: bool
    defender_after: bool
    judge_after: bool

    @property
    def seen(self) -> bool:
        """Whether anyone saw it at first."""
        return self.defender_before or self.judge_before

    @property
    def gone(self) -> bool:
        """Whether it was seen, and neither sees it now."""
        return self.seen and not (self.defender_after or self.judge_after)


@dataclass(frozen=True)
class Kept:
    """One repair that stayed: how near the pixels of its support are to the clean render."""

    on_artifact: bool
    """Whether its core meets anything injected."""
    psnr_before: float
    psnr_after: float
    ssim_before: float
    ssim_after: float


@dataclass(frozen=True)
class Damage:
    """What repairs that stayed did to pixels that were as they should be: those in which the input is the
    clean render, inside the supports of those repairs."""

    pixels: int
    changed: int
    """Of which differ from the clean render by more than `VISIBLE` levels now."""
    levels: float
    """Sum over the pixels of how far they are from it, mean over the channels, 0..255 each."""


@dataclass(frozen=True)
class Outcome:
    """One pair in one arm."""

    seed: int
    artifacts: tuple[Artifact, ...]
    kept: tuple[Kept, ...]
    score_before: float
    """The judge's `soundness` of the flawed picture, before and after."""
    score_after: float
    right_before: bool
    """Whether the judge sees the solids and colors that are there."""
    right_after: bool
    new_flaw: bool
    """Whether the judge sees a category that is neither injected nor was seen before."""
    clean_changed: bool
    """Whether any pixel of the clean render changed."""
    changed_outside: tuple[int, ...]
    """By round, how many pixels outside the support are not the flawed input's."""
    clean_changed_outside: tuple[int, ...]
    """The same of the clean input."""
    damage: Damage
    clean_damage: Damage
    paintings: int

    @property
    def sound_spoiled(self) -> bool:
        """Whether what had been right got worse: another object or color, or pixels farther from the clean
        render where nothing had been injected."""
        lost = self.right_before and not self.right_after
        return lost or any(not kept.on_artifact and kept.psnr_after < kept.psnr_before for kept in self.kept)

    @property
    def flawed_broken(self) -> bool:
        """Whether something got worse: that, or a flaw of another kind, mostly in what was painted where the
        injected flaw had been."""
        return self.new_flaw or self.sound_spoiled


@dataclass(frozen=True, eq=False)
class Word:
    """The judge's and the defender's word on one picture."""

    flaws: NDArray[np.float32]
    """(3,) probability by category."""
    right: bool
    diagnosis: Diagnosis

    @property
    def soundness(self) -> float:
        """1 minus the probability of the likeliest flaw, 0..1."""
        return float(1 - self.flaws.max())


def outcome(
    pair: Pair,
    seed: int,
    flawed: Run,
    clean: Run,
    before: Word,
    after: Word,
    image: Callable[[str], Image],
) -> Outcome:
    """One pair's outcome from its two runs; `image` reads a picture by its digest."""
    injected = np.array(pair.flags)
    truth = Diagnosis(pair.findings).union(pair.flawed.shape[:2])
    result = clean.result
    return Outcome(
        seed,
        tuple(_artifact(pair, i, before, after) for i in range(len(pair.findings))),
        _kept(pair, truth, flawed, image),
        before.soundness,
        after.soundness,
        before.right,
        after.right,
        bool(((after.flaws > SEEN) & (before.flaws <= SEEN) & ~injected).any()),
        result is not None and not np.array_equal(image(result), pair.clean),
        changed_outside(flawed, pair.flawed, image),
        changed_outside(clean, pair.clean, image),
        damage(flawed, pair.flawed, pair.clean, image),
        damage(clean, pair.clean, pair.clean, image),
        sum(len(r.candidates) for run in (flawed, clean) for item in run.rounds for r in item.repairs or ()),
    )


def changed_outside(run: Run, original: Image, image: Callable[[str], Image]) -> tuple[int, ...]:
    """By round, how many pixels outside all supports so far are not bit for bit the original's."""
    support = np.zeros(original.shape[:2], bool)
    counts = []
    for item in run.rounds:
        for repair in item.repairs or ():
            support |= repair.plan.support
        if item.result is not None:
            counts.append(int(((image(item.result) != original).any(axis=-1) & ~support).sum()))
    return tuple(counts)


def damage(run: Run, original: Image, clean: Image, image: Callable[[str], Image]) -> Damage:
    """What the run's repairs that stayed did to pixels of the original that were those of the clean
    render."""
    where = np.zeros(original.shape[:2], bool)
    for item in run.rounds:
        for repair in item.repairs or ():
            if repair.picture is not None:
                where |= repair.plan.support
    where &= (original == clean).all(axis=-1)
    if run.result is None or not where.any():
        return Damage(0, 0, 0.0)
    off = np.abs(image(run.result).astype(int) - clean)[where]
    return Damage(int(where.sum()), int((off.max(axis=-1) > VISIBLE).sum()), float(off.mean(axis=-1).sum()))


def apart(one: Interval, other: Interval) -> bool:
    """Whether two intervals have no value in common."""
    return one.low > other.high or other.low > one.high


def psnr(picture: Image, truth: Image, mask: Mask) -> float:
    """Peak signal-to-noise ratio in decibels over the mask's pixels (H, W), at most IDENTICAL."""
    error = (picture[mask].astype(float) - truth[mask].astype(float)) ** 2
    mean = float(error.mean())
    return IDENTICAL if mean == 0 else min(IDENTICAL, 10 * math.log10(255**2 / mean))


def ssim(picture: Image, truth: Image, mask: Mask) -> float:
    """Structural similarity (Wang and others 2004: Gaussian window of 11 pixels, sigma 1.5) of the luminance,
    mean over the mask's pixels (H, W). Pictures are mirrored at the border."""
    a, b = _luminance(picture), _luminance(truth)
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a, var_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    above = (2 * mean_a * mean_b + _C1) * (2 * covariance + _C2)
    below = (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return float((above / below)[mask].mean())


def overlap(found: Mask, injected: Mask) -> bool:
    """Is it the same flaw: do the masks share a tenth, or does one lie half in the other?"""
    return (
        masks.iou(found, injected) >= KNOWN_IOU
        or max(masks.inside(found, injected), masks.inside(injected, found)) >= KNOWN_INSIDE
    )


def _artifact(pair: Pair, i: int, before: Word, after: Word) -> Artifact:
    finding = pair.findings[i]
    k = CATEGORIES.index(finding.category)
    # Another injected flaw may lie in the same place; a flaw of a category that was not there may not.
    others = {f.category for f in pair.findings} - {finding.category}
    return Artifact(
        finding.category,
        pair.kinds[i],
        _found(before.diagnosis, finding, others),
        bool(before.flaws[k] > SEEN),
        _found(after.diagnosis, finding, others),
        bool(after.flaws[k] > SEEN),
    )


def _found(diagnosis: Diagnosis, injected: Finding, others: set[Category]) -> bool:
    return any(f.category not in others and overlap(f.mask, injected.mask) for f in diagnosis.findings)


def _kept(pair: Pair, truth: Mask, run: Run, image: Callable[[str], Image]) -> tuple[Kept, ...]:
    standing, kept = pair.flawed, []
    for repair in (r for item in run.rounds for r in item.repairs or ()):
        if repair.picture is None:
            continue
        now, where = image(repair.picture), repair.plan.support
        kept.append(
            Kept(
                bool((repair.plan.core & truth).any()),
                psnr(standing, pair.clean, where),
                psnr(now, pair.clean, where),
                ssim(standing, pair.clean, where),
                ssim(now, pair.clean, where),
            )
        )
        standing = now
    return tuple(kept)


def _luminance(picture: Image) -> NDArray[np.float64]:
    return picture.astype(float) @ np.array([0.299, 0.587, 0.114])


def _blurred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(_RADIUS, _RADIUS) if a == axis else (0, 0) for a in (0, 1)], "symmetric")
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _RADIUS + 1, axis=axis)
        values = windows @ weights
    return values

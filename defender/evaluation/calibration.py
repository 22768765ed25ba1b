"""Calibration: when the defender speaks up, and what its probability of "generated" means.

* The alarm threshold is where the wanted share of clean pictures (4 % by default) still gets a finding: a
  quantile of what the defender inclines to say about them. LEGION's greedy decision is a threshold of 0.5.
  Imported weights have no such inclination, and tiles are many looks: there the quantile is of the
  confidence of each picture's surest finding.
* The detection head's logit becomes a probability by Platt's scaling (Platt 1999), sigmoid(scale * logit +
  shift), with the smoothed targets of his paper, so that a head that separates everything still gets finite
  numbers. A shift of 0 would be temperature scaling; it is not enough where training saw more of one kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import InvalidInput
from defender.checkpoint import Thresholds
from defender.evaluation.detection import calibration_error
from defender.evaluation.pictures import Picture
from defender.legion_defender import Alarm, LegionDefender, surest
from defender.tiling import TiledDefender, plan

FALSE_ALARMS = 0.04
FEWEST = 20
"""Of fewer pictures nothing is concluded."""
_NEWTON_STEPS = 50


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is calibrated on: one number per picture."""

    clean: NDArray[np.float64]
    """Inclination to find artifacts (0..1) in pictures known to be free of them."""
    flawed: NDArray[np.float64]
    """The same in pictures that have some."""
    logit: NDArray[np.float64]
    """The detection head's logit of "generated", for pictures of which it is known; empty without a head."""
    generated: NDArray[np.bool_]
    """Whether those are."""
    alarm: Alarm = "artifact_probability"
    """The threshold that the inclinations are compared with."""

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(
            np.concatenate([self.clean, other.clean]),
            np.concatenate([self.flawed, other.flawed]),
            np.concatenate([self.logit, other.logit]),
            np.concatenate([self.generated, other.generated]),
            other.alarm,
        )


NOTHING = Evidence(np.zeros(0), np.zeros(0), np.zeros(0), np.zeros(0, bool))


def gather(defender: LegionDefender, pictures: Sequence[Picture]) -> Evidence:
    """Let the defender look at some pictures; its thresholds play no part."""
    images = [picture.sample.image for picture in pictures]
    inclination, logits = defender.inclinations(images)
    clean = np.array([picture.clean for picture in pictures], bool)
    flawed = np.array([bool(picture.sample.findings) for picture in pictures], bool)
    known = np.array([picture.sample.is_real is not None for picture in pictures], bool)
    generated = np.array([picture.sample.is_real is False for picture in pictures], bool)
    if logits is None:
        known &= False
    return Evidence(
        inclination[clean],
        inclination[flawed],
        logits[known] if logits is not None else np.zeros(0),
        generated[known],
        defender.alarm,
    )


def gather_tiled(defender: TiledDefender, pictures: Sequence[Picture]) -> Evidence:
    """Let the defender look at tiles, too; of its thresholds only that of tiles plays no part.

    Pictures that are too small to be cut say nothing of tiles, and are left out.
    """
    eager = TiledDefender(defender.inner, replace(defender.tiling, min_confidence=0.0))
    sizes = [picture.sample.image.shape for picture in pictures]
    cut = [
        p for p, (height, width, _) in zip(pictures, sizes, strict=True) if plan(height, width, eager.tiling)
    ]
    sure = np.array([surest(d) for d in eager.diagnose([p.sample.image for p in cut])], float)
    clean = np.array([picture.clean for picture in cut], bool)
    flawed = np.array([bool(picture.sample.findings) for picture in cut], bool)
    return Evidence(sure[clean], sure[flawed], np.zeros(0), np.zeros(0, bool), "tile_confidence")


def tile_confidence_from(
    evidence: Evidence, before: Thresholds, false_alarms: float = FALSE_ALARMS, fewest: int = FEWEST
) -> Thresholds:
    """Thresholds with that of tiles chosen on what `gather_tiled` saw. Raises InvalidInput on too few."""
    if len(evidence.clean) < fewest:
        raise InvalidInput(
            f"nothing to calibrate tiles on: {len(evidence.clean)} pictures known to be free of artifacts "
            f"are large enough to be cut into tiles; {fewest} are needed"
        )
    return replace(before, tile_confidence=alarm_threshold(evidence.clean, false_alarms))


def thresholds_from(
    evidence: Evidence, before: Thresholds, false_alarms: float = FALSE_ALARMS, fewest: int = FEWEST
) -> Thresholds:
    """Thresholds chosen on `evidence`; what fewer than `fewest` pictures speak of stays as before.

    Raises InvalidInput for a share outside 0..1, or if nothing at all can be chosen.
    """
    if not 0 <= false_alarms < 1:
        raise InvalidInput(f"the share of false alarms is {false_alarms}: choose a number from 0, below 1")
    changed = before
    if len(evidence.clean) >= fewest:
        limit = alarm_threshold(evidence.clean, false_alarms)
        if evidence.alarm == "min_confidence":
            changed = replace(changed, min_confidence=limit)
        else:
            changed = replace(changed, artifact_probability=limit)
    kinds = min(int(evidence.generated.sum()), int((~evidence.generated).sum()))
    if kinds >= fewest:
        scale, shift = platt(evidence.logit, evidence.generated)
        changed = replace(changed, detection_scale=scale, detection_shift=shift)
    if len(evidence.clean) < fewest and kinds < fewest:
        raise InvalidInput(
            f"nothing to calibrate on: {len(evidence.clean)} pictures are known to be free of artifacts, "
            f"{kinds} of real and of generated each can be used; {fewest} are needed"
        )
    return changed


def alarm_threshold(clean: ArrayLike, false_alarms: float) -> float:
    """The smallest threshold, 0..1, that at most the given share of clean pictures reaches."""
    ranked = np.sort(np.asarray(clean, float))
    allowed = int(false_alarms * len(ranked))
    # Just above the highest value that must not reach it.
    return float(min(1.0, ranked[len(ranked) - allowed - 1] + 1e-4))


def platt(logit: ArrayLike, happened: ArrayLike) -> tuple[float, float]:
    """Scale and shift of the most likely sigmoid, by Newton's method on Platt's smoothed targets."""
    x, true = np.asarray(logit, float), np.asarray(happened, bool)
    positive, negative = int(true.sum()), int((~true).sum())
    target = np.where(true, (positive + 1) / (positive + 2), 1 / (negative + 2))
    inputs = np.stack([x, np.ones(len(x))], axis=1)
    weights = np.array([1.0, 0.0])
    loss = _log_loss(inputs @ weights, target)
    for _ in range(_NEWTON_STEPS):
        probability = sigmoid(inputs @ weights)
        gradient = inputs.T @ (probability - target)
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        shorter = 1.0
        while (new := _log_loss(inputs @ (weights - shorter * step), target)) > loss and shorter > 1e-6:
            shorter /= 2
        weights, gained, loss = weights - shorter * step, loss - new, new
        if abs(gained) < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def sigmoid(x: ArrayLike) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    value = np.asarray(x, float)
    return np.exp(-np.logaddexp(0, -value))


def _log_loss(logit: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    return float((np.logaddexp(0, logit) - target * logit).sum())


def summary(evidence: Evidence, thresholds: Thresholds) -> dict[str, float | None]:
    """What thresholds make of the pictures of `evidence`, shares from 0 to 1; None without such pictures."""
    probability = sigmoid(thresholds.detection_scale * evidence.logit + thresholds.detection_shift)
    right = (probability >= 0.5) == evidence.generated
    error = calibration_error(probability, evidence.generated)(np.ones((1, len(probability))))[0]
    return {
        **alarms(evidence, thresholds),
        "real or generated, accuracy": _share(right),
        "real or generated, calibration error": None if np.isnan(error) else float(error),
    }


def alarms(evidence: Evidence, thresholds: Thresholds, how: str = "") -> dict[str, float | None]:
    """The first two figures of `summary`, their names followed by `how` the pictures were looked at."""
    limit = getattr(thresholds, evidence.alarm)
    return {
        f"false alarms{how}": _share((evidence.clean >= limit) & (evidence.clean > 0)),
        f"flawed pictures given a finding{how}": _share((evidence.flawed >= limit) & (evidence.flawed > 0)),
    }


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None

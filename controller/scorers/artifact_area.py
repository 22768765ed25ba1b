"""How much of a picture is free of artifacts, by any defender's word. Needs no network of its own."""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from contracts.errors import InvalidInput, ModelError
from contracts.protocols import Defender
from contracts.records import Diagnosis, Image, Score, Usage
from controller.scorers.signature import signature

REMEMBERED = 64
"""Pictures whose diagnosis is kept."""


def artifact_area_ratio(diagnosis: Diagnosis, shape: tuple[int, int], min_confidence: float = 0.0) -> float:
    """Share of the picture (H, W) inside at least one finding's mask, 0..1; overlaps count once.

    Findings below `min_confidence` do not count.
    """
    counted = tuple(f for f in diagnosis.findings if f.confidence >= min_confidence)
    return float(Diagnosis(counted).union(shape).mean())


class ArtifactAreaScorer:
    """A Scorer: 1 minus the artifact area ratio: higher is better, as everywhere; 1 if nothing is found.

    The prompt does not count. A round that is selected by what a defender finds should be reported by the
    findings of another one.
    """

    def __init__(self, name: str, defender: Defender, min_confidence: float = 0.0) -> None:
        """Raises InvalidInput for a confidence outside 0..1."""
        if not (math.isfinite(min_confidence) and 0 <= min_confidence <= 1):
            raise InvalidInput(f"min confidence {min_confidence} cannot be used: choose 0 to 1")
        self.name = name
        self._defender, self._min_confidence = defender, min_confidence
        weights, options = _digest(defender.describe()), {"min_confidence": min_confidence}
        self._version = signature("artifact-area", "", weights, options)

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        """0..1 per picture (uint8, H x W x 3). Raises InvalidInput if there is not one prompt per picture."""
        if len(images) != len(prompts):
            raise InvalidInput(f"{len(images)} images and {len(prompts)} prompts: give one prompt per image")
        diagnoses = self._defender.diagnose(images) if images else []
        if len(diagnoses) != len(images):
            raise ModelError(
                f"{self._defender.name} gave {len(diagnoses)} results for {len(images)} pictures"
            )
        return [
            Score(self.name, self._version, round(1 - self._ratio(diagnosis, image), 6))
            for diagnosis, image in zip(diagnoses, images, strict=True)
        ]

    def describe(self) -> Mapping[str, object]:
        """Name, kind, the defender's own description, and the version that scores are signed with."""
        return {
            "name": self.name,
            "kind": "artifact-area",
            "defender": dict(self._defender.describe()),
            "min_confidence": self._min_confidence,
            "version": self._version,
        }

    def _ratio(self, diagnosis: Diagnosis, image: Image) -> float:
        return artifact_area_ratio(diagnosis, image.shape[:2], self._min_confidence)


class RememberingDefender:
    """A Defender that looks at the same picture once: the loop's diagnosis serves the scorer too."""

    def __init__(self, defender: Defender, limit: int = REMEMBERED) -> None:
        """`limit` is how many pictures' diagnoses are kept."""
        self.name = defender.name
        self._defender, self._limit = defender, limit
        self._seen: OrderedDict[str, Diagnosis] = OrderedDict()

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        """As the defender's own. What is remembered took nothing."""
        keys = [f"{image.shape}{hashlib.sha256(image.tobytes()).hexdigest()}" for image in images]
        known = {key: self._seen[key] for key in keys if key in self._seen}
        new = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
        if new:
            found = dict(zip(new, self._defender.diagnose(list(new.values())), strict=True))
            known |= found
            self._seen |= {key: _remembered(one) for key, one in found.items()}
            while len(self._seen) > self._limit:
                self._seen.popitem(last=False)
        told = []
        for key in keys:
            told.append(known[key])
            known[key] = _remembered(known[key])
        return told

    def describe(self) -> Mapping[str, object]:
        """As the defender's own: what is remembered changes no result."""
        return self._defender.describe()


def _remembered(diagnosis: Diagnosis) -> Diagnosis:
    return replace(diagnosis, usage=Usage()) if diagnosis.usage.calls else diagnosis


def _digest(description: Mapping[str, object]) -> str:
    """Short sha256 of what a defender says of itself: its weights and all its settings but the device."""
    settings = {key: value for key, value in description.items() if key != "device"}
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

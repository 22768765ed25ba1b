"""The independent judge's word on paintings, as scores for a report and as findings for a bound.

No score of it may select anything: whoever is measured by the judge must not have asked it. The one exception
is the oracle, which shows how far a loop would come if it knew what the judge knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidInput
from contracts.records import CATEGORIES, Diagnosis, Finding, Image, Score
from controller.checkpoints import file_digest
from tabletop import judge
from tabletop.scenes import COLORS, SHAPES

FLAWED = 0.5
"""The judge sees a flaw of a category from this probability on."""
Value: TypeAlias = Callable[[judge.Opinion, Sequence[str]], NDArray[np.float64]]
"""From the judge's opinion of N pictures, and their prompts, to (N,) numbers."""
NOTHING = (len(SHAPES), len(COLORS))
_SOLID = re.compile(rf"\b({'|'.join(COLORS)}) ({'|'.join(SHAPES)})\b")


def asked_for(prompt: str) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Shape and color of the solid on the left and of the one on the right (NOTHING where one is asked for),
    as places in SHAPES and COLORS; None if the prompt names no solid, or more than two."""
    solids = [(SHAPES.index(shape), COLORS.index(color)) for color, shape in _SOLID.findall(prompt.lower())]
    if not 1 <= len(solids) <= 2:
        return None
    left, right = (*solids, NOTHING)[:2]
    return left, right


def check_readable(prompts: Sequence[str]) -> None:
    """Raises InvalidInput for a prompt of which the judge cannot tell what it asks for."""
    for prompt in prompts:
        if asked_for(prompt) is None:
            raise InvalidInput(f"the judge cannot read the prompt {prompt!r}: it names no tabletop solid")


class JudgeScorer:
    """A Scorer that asks the judge. `value` turns its opinion of pictures and their prompts into numbers."""

    def __init__(
        self,
        name: str,
        network: judge.JudgeNetwork,
        version: str,
        value: Value,
    ) -> None:
        self.name, self._network, self._version, self._value = name, network, version, value

    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        """One per picture, uint8 (64, 64, 3). Raises InvalidInput for another size, or unread prompts."""
        if not images:
            return []
        if any(image.shape != (64, 64, 3) for image in images):
            raise InvalidInput("the judge knows tabletop pictures of 64 x 64 pixels only")
        opinion = judge.judge(self._network, np.stack(images))
        values = self._value(opinion, prompts)
        return [Score(self.name, self._version, round(float(value), 6)) for value in values]

    def describe(self) -> Mapping[str, object]:
        """Its name and the judge's version."""
        return {"name": self.name, "kind": "judge", "version": self._version}


def soundness(opinion: judge.Opinion, _prompts: Sequence[str]) -> NDArray[np.float64]:
    """1 minus the probability of the likeliest flaw, 0..1."""
    return np.asarray(1 - opinion.flaws.max(axis=1), float)


def sound(opinion: judge.Opinion, _prompts: Sequence[str]) -> NDArray[np.float64]:
    """1 where the judge sees no flaw, else 0."""
    return np.asarray((opinion.flaws <= FLAWED).all(axis=1), float)


def faithful(opinion: judge.Opinion, prompts: Sequence[str]) -> NDArray[np.float64]:
    """1 where the solids and colors of the prompt are there, from left to right, and no other, else 0. Raises
    InvalidInput for a prompt that names no solid."""
    check_readable(prompts)
    seen = zip(opinion.shape, opinion.color, opinion.second_shape, opinion.second_color, strict=True)
    return np.array(
        [
            asked_for(prompt) == ((shape, color), (second_shape, second_color))
            for prompt, (shape, color, second_shape, second_color) in zip(prompts, seen, strict=True)
        ],
        float,
    )


@dataclass(frozen=True, eq=False)
class JudgeDefender:
    """A Defender that says what the judge sees: a category, and nothing about where."""

    network: judge.JudgeNetwork
    version: str
    name: str = "judge"

    def diagnose(self, images: Sequence[Image]) -> list[Diagnosis]:
        """One per picture, uint8 (64, 64, 3); each mask is the whole picture."""
        opinion = judge.judge(self.network, np.stack(images))
        return [_diagnosis(flaws, image) for flaws, image in zip(opinion.flaws, images, strict=True)]

    def describe(self) -> Mapping[str, object]:
        """Its name and version."""
        return {"name": self.name, "version": self.version}


def load(folder: Path) -> tuple[judge.JudgeNetwork, str]:
    """The judge, and the digest of its weights. Raises CheckpointError."""
    network = judge.load(folder)
    return network, file_digest(folder / "model.safetensors")


def _diagnosis(flaws: NDArray[np.float32], image: Image) -> Diagnosis:
    everywhere = np.ones(image.shape[:2], dtype=bool)
    return Diagnosis(
        tuple(
            Finding(everywhere, "the picture", f"its {category} is wrong", category, round(float(p), 6))
            for category, p in zip(CATEGORIES, flaws, strict=True)
            if p > FLAWED
        )
    )

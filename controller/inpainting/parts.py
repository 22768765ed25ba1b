"""What the inpainting loop works on and with: a picture, its tools, its settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np

from contracts.errors import InvalidInput, UnusableSetting
from contracts.protocols import Inpainter
from contracts.records import Diagnosis, Finding, Image, Mask
from controller.prompt_rules import clean_prompt
from controller.region_gate import RegionGate
from controller.regions import EMPTY_MASK, RegionSettings, check_area
from controller.steps import Tools, check_batch_size


@dataclass(frozen=True, eq=False)
class InpaintingCase:
    """One picture to repair. The prompt never changes; where it is empty, the defender's words on the first
    picture take its place."""

    run_id: str
    image: Image
    """(H, W, 3)."""
    prompt: str = ""
    seed: int = 0
    mask: Mask | None = None
    """(H, W): exactly these pixels may change; None leaves the choice to the defender."""
    protected: Mask | None = None
    """(H, W): these pixels never change."""


class Aim(Protocol):
    """Which findings a round repairs."""

    name: str

    def findings(self, run_id: str, round_index: int, diagnosis: Diagnosis) -> Sequence[Finding]:
        """What to plan for, given what the defender found. The same call must give the same answer."""
        ...


class AsFound:
    """Repair what the defender found."""

    name = "as found"

    def findings(self, run_id: str, round_index: int, diagnosis: Diagnosis) -> Sequence[Finding]:
        """The diagnosis's own findings."""
        return diagnosis.findings


@dataclass(frozen=True, kw_only=True)
class InpaintingTools(Tools):
    """The parts of the loop."""

    inpainter: Inpainter
    gate: RegionGate
    aim: Aim = field(default_factory=AsFound)

    def describe(self) -> dict[str, object]:
        """What a record needs to know about every part."""
        return {
            "inpainter": dict(self.inpainter.describe()),
            **super().describe(),
            "gate": dict(self.gate.describe()),
            "aim": self.aim.name,
        }


@dataclass(frozen=True)
class InpaintingSettings:
    """How long, how often and how boldly. Raises InvalidInput for numbers that make no loop."""

    rounds: int = 2
    """Rounds at most, 1 or more."""
    candidates: int = 2
    """Paintings of each region, of which the gate takes the best or none, 1 or more."""
    tries: int = 2
    """Rounds in which a region is painted before it is given up, 1 or more."""
    strength: float = 1.0
    """How much of the picture under the mask is given up for noise, above 0 up to 1."""
    quality: str = ""
    """Words that every region is painted with, after the scene: what a good picture of it has in any case."""
    match_colors: bool = True
    """Whether a painted crop is shifted to the colors around the region."""
    regions: RegionSettings = field(default_factory=RegionSettings)
    batch_size: int = 8
    """Crops or pictures per model call. Changes speed and memory, not results, so it is no part of a run's
    record."""
    memory: bool = False
    """Whether the words for a region look up what helped in earlier runs. What a run teaches is kept in any
    case."""

    def __post_init__(self) -> None:
        for name in ("rounds", "candidates", "tries"):
            if getattr(self, name) < 1:
                raise UnusableSetting(f"{{}} is {getattr(self, name)}: choose 1 or more", name)
        if not 0 < self.strength <= 1:
            raise UnusableSetting(f"{{}} is {self.strength}: choose above 0 up to 1", "strength")
        check_batch_size(self.batch_size)

    def record(self) -> dict[str, object]:
        """The settings that a result depends on."""
        values = asdict(self)
        del values["batch_size"]
        if not self.memory:  # runs from before there was experience can be taken up again
            del values["memory"]
        return values


def checked(case: InpaintingCase) -> InpaintingCase:
    image = case.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InvalidInput(
            f"a picture of {image.dtype} {image.shape} cannot be repaired: use uint8 (H, W, 3)"
        )
    check_area(case.mask, image.shape[:2], "mask")
    check_area(case.protected, image.shape[:2], "protected mask")
    if case.mask is not None and not case.mask.any():
        raise InvalidInput(EMPTY_MASK)
    return replace(case, prompt=clean_prompt(case.prompt) if case.prompt.strip() else "")

"""A world of known truth for inpainting: red squares are the flaws, and everything is counted.

The painter fills what it may paint with gray, or leaves the flaw, as the seed decides; it also spoils every
pixel outside the mask a little, as an autoencoder does.
"""

from __future__ import annotations

import sys
import types

import numpy as np
from counting import Counting, dice

import flows
from contracts.records import CATEGORIES, Diagnosis, Finding, Score
from controller import masks
from controller.inpainting import InpaintingTools
from controller.modifiers import RuleBasedModifier
from controller.region_gate import MeasuredGate, RegionGateSettings
from prompts import load_lexicon

SIDE = 32
GRAY = 120
FLAW = (255, 0, 0)


def picture(*squares, side=SIDE, seed=0):
    """A gray picture with a little noise and red squares (left, top, right, bottom)."""
    image = np.random.default_rng(seed).integers(GRAY - 2, GRAY + 3, (side, side, 3)).astype(np.uint8)
    for left, top, right, bottom in squares:
        image[top:bottom, left:right] = FLAW
    return image


def flawed(image):
    return (image[..., 0] > 200) & (image[..., 1] < 60)


class SquareDefender(Counting):
    """Each red patch is a finding; its category depends on its place."""

    def __init__(self) -> None:
        super().__init__("square defender")

    def diagnose(self, images):
        self.count([image.tobytes() for image in images])
        return [Diagnosis(tuple(self._finding(part) for part in masks.components(flawed(i)))) for i in images]

    def _finding(self, part):
        rows, _ = np.nonzero(part)
        category = CATEGORIES[int(rows[0]) % 3]
        return Finding(part, "the square", "it is red", category, 0.9)


class GrayPainter(Counting):
    """Paints gray, or by the seed's chance red; remembers its requests and calls."""

    native_size = (16, 16)
    alignment = 4

    def __init__(self, failures: int = 100) -> None:
        super().__init__("gray painter")
        self.failures = failures
        self.requests: list = []

    def inpaint(self, requests):
        self.count([r.seed for r in requests])
        self.requests += requests
        return [self._paint(r) for r in requests]

    def _paint(self, request):
        image = np.where(request.image > 128, request.image - 3, request.image + 3).astype(np.uint8)
        color = FLAW if dice(request.seed) < self.failures else (GRAY, GRAY, GRAY)
        image[request.mask] = color
        return image


class GrayTaste(Counting):
    """The less red, the better; prompts are remembered."""

    def __init__(self, name: str = "taste") -> None:
        super().__init__(name)
        self.prompts: list[str] = []

    def score(self, images, prompts):
        self.count([image.tobytes() for image in images])
        self.prompts += prompts
        return [Score(self.name, "1", 1.0 - float(flawed(image).mean())) for image in images]


def square_tools() -> InpaintingTools:
    """Tools that repair every square at the first try."""
    return InpaintingTools(
        inpainter=GrayPainter(failures=0),
        defender=SquareDefender(),
        selection_scorer=GrayTaste(),
        reporting_scorers=(GrayTaste("report"),),
        modifier=RuleBasedModifier(load_lexicon("tabletop")),
        gate=MeasuredGate(RegionGateSettings("taste", max_seam=40)),
    )


def assemble(monkeypatch, tools: InpaintingTools) -> None:
    """Let `flows.assemble` hand out these tools."""
    module = types.ModuleType("flows.assemble")
    module.inpainting_tools = lambda profile, steps, guidance: tools  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flows.assemble", module)
    monkeypatch.setattr(flows, "assemble", module, raising=False)

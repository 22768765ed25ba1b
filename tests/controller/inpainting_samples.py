"""A world of known truth for the inpainting loop: red squares are the flaws, and everything is counted.

The painter fills what it may paint with gray, or leaves the flaw, as the seed decides; it also spoils every
pixel outside the mask a little, as an autoencoder does.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from loop_samples import CountingModifier, Scripted, dice

from contracts.records import CATEGORIES, Diagnosis, Finding, Score
from controller import masks
from controller.inpainting import InpaintingCase, InpaintingSettings, InpaintingTools
from controller.region_gate import MeasuredGate, RegionGateSettings
from controller.regions import RegionSettings
from memory_bank.bank import SqlMemoryBank

SIDE = 32
GRAY = 120
FLAW = (255, 0, 0)
REGIONS = RegionSettings(dilate_pixels=1, feather_pixels=1)


def picture(*squares, side=SIDE, seed=0):
    """A gray picture with a little noise and red squares (left, top, right, bottom)."""
    image = np.random.default_rng(seed).integers(GRAY - 2, GRAY + 3, (side, side, 3)).astype(np.uint8)
    for left, top, right, bottom in squares:
        image[top:bottom, left:right] = FLAW
    return image


def flawed(image):
    return (image[..., 0] > 200) & (image[..., 1] < 60)


class SquareDefender(Scripted):
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


class GrayPainter(Scripted):
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


class GrayTaste(Scripted):
    """The less red, the better; prompts are remembered."""

    def __init__(self, name: str = "taste") -> None:
        super().__init__(name)
        self.prompts: list[str] = []

    def score(self, images, prompts):
        self.count([image.tobytes() for image in images])
        self.prompts += prompts
        return [Score(self.name, "1", 1.0 - float(flawed(image).mean())) for image in images]


def inpainting_tools(**changes) -> InpaintingTools:
    tools = InpaintingTools(
        inpainter=GrayPainter(),
        defender=SquareDefender(),
        selection_scorer=GrayTaste(),
        reporting_scorers=(GrayTaste("report"),),
        modifier=CountingModifier(),
        gate=MeasuredGate(RegionGateSettings("taste", max_seam=40)),
    )
    return replace(tools, **changes)


def settings(**changes) -> InpaintingSettings:
    return InpaintingSettings(
        **{"rounds": 3, "candidates": 2, "regions": REGIONS, "batch_size": 4, **changes}
    )


CASES = [
    InpaintingCase("one", picture((4, 4, 8, 8), (20, 20, 26, 25)), "a gray wall", 7),
    InpaintingCase("two", picture((14, 2, 18, 9), seed=1), "", 7),
    InpaintingCase("three", picture(seed=2), "a gray wall", 7),
    InpaintingCase("four", picture((2, 2, 6, 6), (9, 2, 13, 6), (24, 24, 30, 30), seed=3), "", 11),
]


class CuttingBank(SqlMemoryBank):
    """Plays Ctrl-C right after the n-th commit of this process."""

    interrupt_after: int | None = None
    commits = 0

    def _commit(self, *arguments, **named):
        super()._commit(*arguments, **named)
        self.commits += 1
        if self.commits == self.interrupt_after:
            raise KeyboardInterrupt


def bank_at(folder) -> CuttingBank:
    return CuttingBank(f"sqlite:///{folder}/bank.sqlite3", str(folder / "store"))


def contents(runs, bank):
    """Everything of some runs that must be the same however they came about: all but times."""
    return [
        (run.run_id, run.prompt, run.status, bank.image(run.result).tobytes(), *map(_round, run.rounds))
        for run in runs
    ]


def _round(item):
    return (
        item.index, item.prompt, item.seed, item.image, item.result, item.outside, item.scores, item.verdict,
        _findings(item.diagnosis.findings),
        [_repair(repair) for repair in item.repairs],
        [(_findings(x.findings), x.mask.tobytes(), x.reason) for x in item.left_out],
    )  # fmt: skip


def _repair(repair):
    plan = repair.plan
    place = (plan.core.tobytes(), plan.weights.tobytes(), plan.crop, plan.target, plan.gain)
    word = (repair.prompt, repair.accepted, repair.reason, repair.chosen, repair.picture)
    return _findings(plan.findings), place, word, [_candidate(c) for c in repair.candidates]


def _candidate(c):
    seen = (_findings(c.diagnosis.findings), c.scores, c.seam, c.outside)
    return c.seed, c.painted, seen, c.accepted, c.reason


def _findings(findings):
    return [(f.mask.tobytes(), f.phrase, f.explanation, f.category, f.confidence) for f in findings]


def differing(a, b):
    """(H, W): pixels that are not the same."""
    return (a != b).any(axis=-1)

"""Tools, cases and a bank that can be interrupted, for the inpainting loop in the world of red squares."""

from __future__ import annotations

from dataclasses import replace

from loop_samples import CountingModifier
from red_squares import SIDE, GrayPainter, GrayTaste, SquareDefender, picture

from controller.inpainting import InpaintingCase, InpaintingSettings, InpaintingTools
from controller.region_gate import MeasuredGate, RegionGateSettings
from controller.regions import RegionSettings
from memory_bank.bank import SqlMemoryBank

SHAPE = (SIDE, SIDE)
REGIONS = RegionSettings(dilate_pixels=1, feather_pixels=1)


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

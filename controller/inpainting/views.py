"""What the record of an inpainting run tells: what the picture shows, and who painted which pixel."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.records import Run
from controller.compositing import Source, SourceMap
from controller.region_prompts import described_scene


def scene_of(run: Run) -> str:
    """What the picture shows: the person's prompt, or the defender's words on the first picture.

    Empty as long as the run has neither.
    """
    if run.prompt or not run.rounds or run.rounds[0].diagnosis is None:
        return run.prompt
    return described_scene(run.rounds[0].diagnosis.findings)


def source_map(run: Run, shape: tuple[int, int]) -> SourceMap:
    """Where every pixel of a run's result of `shape` (H, W) comes from, as far as the run has come."""
    model = run.settings.get("inpainter")
    name = str(model.get("name", "")) if isinstance(model, Mapping) else ""
    result = SourceMap.pristine(shape)
    for item in run.rounds:
        for number, repair in enumerate(item.stays, start=1):
            if repair.chosen is not None:
                seed = repair.candidates[repair.chosen - 1].seed
                source = Source(item.index, number, repair.chosen, seed, name, repair.prompt or "")
                result = result.with_region(repair.plan.support, source)
    return result

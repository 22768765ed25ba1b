"""What a first round of repairs would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from contracts.records import Diagnosis
from controller.inpainting.parts import InpaintingCase, InpaintingSettings, InpaintingTools, checked
from controller.inpainting.planning import plan_round
from controller.region_prompts import described_scene, region_prompts
from controller.regions import Plan
from controller.steps import diagnoses_of


class Preview(NamedTuple):
    """What a first round would do."""

    diagnosis: Diagnosis
    plan: Plan
    prompts: tuple[str, ...]
    """One per region of the plan."""


def preview(
    cases: Sequence[InpaintingCase], tools: InpaintingTools, settings: InpaintingSettings
) -> list[Preview]:
    """What the first round of `inpaint` would repair, in which order and with which words; nothing is painted
    and nothing recorded. Raises as `inpaint` does."""
    cases = [checked(case) for case in cases]
    images = [case.image for case in cases]
    diagnoses, _ = (
        diagnoses_of(tools.defender.name, images, lambda: tools.defender.diagnose(images))
        if cases
        else ([], 0.0)
    )
    previews = []
    for case, diagnosis in zip(cases, diagnoses, strict=True):
        plan = plan_round(case, tools, settings, 1, diagnosis, (), case.mask)
        scenes = [case.prompt or described_scene(diagnosis.findings)] * len(plan.regions)
        revisions = (
            region_prompts(scenes, plan.regions, tools.modifier, quality=settings.quality)
            if plan.regions
            else []
        )
        previews.append(Preview(diagnosis, plan, tuple(revision.prompt for revision in revisions)))
    return previews

"""What a round of repairs is for, and the word on it once all its regions are decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from contracts.records import Diagnosis, Mask, Review, Round, Verdict
from controller.gate import NO_ARTIFACTS, ROUND_LIMIT
from controller.inpainting.parts import InpaintingCase, InpaintingSettings, InpaintingTools
from controller.inpainting.state import State
from controller.region_gate import Attempt, given_up
from controller.regions import PaintingSize, Plan, RegionSettings, plan_regions
from controller.reviewing import thresholds, with_review

NOTHING_TO_TRY = "nothing left to try"
MASK_DONE = "everything in the mask is repainted"


def plan_round(
    case: InpaintingCase,
    tools: InpaintingTools,
    settings: InpaintingSettings,
    index: int,
    diagnosis: Diagnosis,
    attempts: Sequence[Attempt],
    open_mask: Mask | None,
) -> Plan:
    """What round `index` repairs in a picture of which `diagnosis` is known."""
    if open_mask is not None and not open_mask.any():
        return Plan(())
    shape = (case.image.shape[0], case.image.shape[1])
    return plan_regions(
        tools.aim.findings(case.run_id, index, diagnosis),
        shape,
        settings.regions,
        PaintingSize(*tools.inpainter.native_size, tools.inpainter.alignment),
        user_mask=open_mask,
        protected=case.protected,
        given_up=given_up(attempts, settings.tries),
    )


def round_verdict(state: State, found: Diagnosis, following: Plan, rounds: int) -> Verdict:
    """The word on a round whose regions are all decided, and whether another one follows."""
    accepted, planned = sum(bool(r.accepted) for r in state.repairs), len(state.repairs)
    if planned:
        words = f"{accepted} of {planned} region{'' if planned == 1 else 's'} repaired"
    else:
        words = "no region to repair"
    stop = None
    if not following.regions:
        stop = _end(state, found)
        left = dict.fromkeys(x.reason for x in following.left_out)
        words += "".join(f"; {reason}" for reason in left)
    elif state.last.index >= rounds:
        stop = ROUND_LIMIT
    verdict = Verdict(accepted > 0, words, stop)
    return verdict if state.last.review is None else _reviewed(verdict, state.last.review)


def with_thresholds(settings: InpaintingSettings, rounds: Sequence[Round]) -> InpaintingSettings:
    """The settings with what a person last set for the masks."""
    known = RegionSettings.__dataclass_fields__
    whole = ("dilate_pixels", "feather_pixels")
    changes = {
        name: int(value) if name in whole else value
        for name, value in thresholds(rounds).items()
        if name in known
    }
    return replace(settings, regions=replace(settings.regions, **changes)) if changes else settings  # type: ignore[arg-type]


def _reviewed(verdict: Verdict, review: Review) -> Verdict:
    """The word on a round as a person's review changes it; repairs that were rejected are undone by then."""
    words = with_review(verdict.reason, review)
    match review.decision:
        case "reject":
            return Verdict(False, words, verdict.stop)
        case "stop":
            return replace(verdict, reason=words, stop=f"stopped by {review.who}")
        case _:
            return replace(verdict, reason=words)


def _end(state: State, found: Diagnosis) -> str:
    """Why nothing is left to repair."""
    if (mask := state.open_mask) is not None and state.case.mask is not None:
        return NOTHING_TO_TRY if mask.any() else MASK_DONE
    return NOTHING_TO_TRY if found.findings else NO_ARTIFACTS

"""What a round of repairs is for, and the word on it once all its regions are decided."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.records import Diagnosis, Mask, Verdict
from controller.gate import NO_ARTIFACTS, ROUND_LIMIT
from controller.inpainting.parts import InpaintingCase, InpaintingSettings, InpaintingTools
from controller.inpainting.state import State
from controller.region_gate import Attempt, given_up
from controller.regions import PaintingSize, Plan, plan_regions

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
    return Verdict(accepted > 0, words, stop)


def _end(state: State, found: Diagnosis) -> str:
    """Why nothing is left to repair."""
    if (mask := state.open_mask) is not None and state.case.mask is not None:
        return NOTHING_TO_TRY if mask.any() else MASK_DONE
    return NOTHING_TO_TRY if found.findings else NO_ARTIFACTS

"""Regions, candidates, results and proofs of inpainting rounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import AlreadyCommitted, InvalidInput, MemoryBankError, ModelError
from contracts.records import (
    Box,
    Candidate,
    Diagnosis,
    Finding,
    LeftOut,
    ModelCall,
    RegionPlan,
    Repair,
    Score,
    Usage,
)

BEGIN = {"kind": "inpainting", "prompt": "", "seed": 7, "settings": {"rounds": 2}}
SHAPE = (6, 8)
IMAGE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(*SHAPE, 3)


def mask(left, top, right, bottom):
    result = np.zeros(SHAPE, bool)
    result[top:bottom, left:right] = True
    return result


FINDING = Finding(mask(1, 1, 3, 3), "the tip", "it is bent", "structure", 0.75)
PLAN = RegionPlan(
    (FINDING,),
    FINDING.mask,
    np.where(FINDING.mask, 255, 40).astype(np.uint8),
    Box(0, 0, 8, 6),
    (64, 48),
    1.5,
)
LEFT = LeftOut((FINDING,), mask(5, 5, 6, 6), "too small")
LOOK = Candidate(
    seed=2**62 + 3,
    painted="",
    diagnosis=Diagnosis((FINDING,), 0.5, "an answer"),
    scores=(Score("taste", "1", 0.25), Score("clip", "2", -0.5)),
    seam=-1.25,
    outside="o" * 64,
    accepted=True,
    reason="repaired: fine",
)


def begun(bank, run="r"):
    held = bank.begin(run, **BEGIN)
    held.__enter__()
    bank.open_round(run, 1, "", 1)
    return held


def same(a, b):
    """Are two records alike, arrays included?"""
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b) and a.dtype == b.dtype
    if isinstance(a, tuple) and not isinstance(a, Box):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dataclass_fields__"):
        return all(same(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    return a == b


def test_a_round_of_regions_comes_back_as_it_was(bank):
    held = begun(bank)
    other = replace(PLAN, findings=(), crop=Box(1, 0, 8, 6), gain=0.0)
    bank.commit_plan("r", 1, [PLAN, other], [LEFT])
    taken = Usage(calls=2, input_tokens=1_200, output_tokens=90, usd=0.00048)
    call = ModelCall("modifier", "llm", 0.5, 1, taken)
    bank.commit_region_prompt("r", 1, 1, "a red cone, perfect shape", 0.5, calls=[call])
    crop = np.full((4, 5, 3), 9, np.uint8)
    painted = bank.commit_painting("r", 1, 1, 1, crop, LOOK.seed, 1.5)
    bank.commit_painting("r", 1, 1, 2, crop + 1, 5, 1.25)
    bank.commit_look("r", 1, 1, 1, replace(LOOK, painted=painted), 0.25)
    picture = bank.commit_repair("r", 1, 1, Repair(PLAN, accepted=True, reason="fine", chosen=1), IMAGE)
    assert bank.commit_repair("r", 1, 2, Repair(other, accepted=False, reason="no"), None) is None
    bank.commit_result("r", 1, picture, "p" * 64)
    held.__exit__(None, None, None)

    (found,) = bank.load("r").rounds
    first, second = found.repairs
    assert same(first.plan, PLAN) and same(second.plan, other) and same(found.left_out, (LEFT,))
    assert (first.prompt, first.accepted, first.reason, first.chosen) == (
        "a red cone, perfect shape", True, "fine", 1,
    )  # fmt: skip
    assert (first.usage, second.usage) == (taken, Usage())
    assert (second.prompt, second.accepted, second.chosen, second.picture) == (None, False, None, None)
    assert same(first.candidates[0], replace(LOOK, painted=painted))
    assert (first.candidates[1].seed, first.candidates[1].diagnosis, first.candidates[1].accepted) == (
        5, None, None,
    )  # fmt: skip
    assert np.array_equal(bank.image(painted), crop) and np.array_equal(bank.image(picture), IMAGE)
    assert (found.result, found.outside) == (picture, "p" * 64)
    assert found.seconds == {"prompt": 0.5, "paint": 2.75, "look": 0.25}
    assert bank.load("r").result == picture
    assert np.array_equal(bank.load("r").support, np.ones(SHAPE, bool))


def test_a_plan_without_regions_is_a_plan(bank):
    held = begun(bank)
    assert bank.load("r").rounds[0].repairs is None
    bank.commit_plan("r", 1, [], [])
    assert bank.load("r").rounds[0].repairs == ()
    assert bank.load("r").support is None
    held.__exit__(None, None, None)


def test_no_step_of_a_region_is_committed_twice(bank):
    held = begun(bank)
    bank.commit_plan("r", 1, [PLAN, PLAN], [])
    crop = np.zeros((4, 4, 3), np.uint8)
    steps = [
        lambda r, c: bank.commit_region_prompt("r", 1, r, "words", 0.1),
        lambda r, c: bank.commit_painting("r", 1, r, c, crop, 1, 0.1),
        lambda r, c: bank.commit_look("r", 1, r, c, LOOK, 0.1),
        lambda r, c: bank.commit_repair("r", 1, r, Repair(PLAN, accepted=False), None),
    ]
    for step in steps:
        step(1, 1)
        step(2, 1)
        with pytest.raises(AlreadyCommitted, match="region 1"):
            step(1, 1)
    steps[1](1, 2)
    steps[2](1, 2)
    with pytest.raises(AlreadyCommitted, match="candidate 2"):
        steps[2](1, 2)
    with pytest.raises(AlreadyCommitted):
        bank.commit_plan("r", 1, [], [])
    bank.commit_result("r", 1, "d" * 64, "p" * 64)
    with pytest.raises(AlreadyCommitted):
        bank.commit_result("r", 1, "d" * 64, "p" * 64)
    held.__exit__(None, None, None)


def test_what_was_not_planned_painted_or_measured_cannot_be_committed(bank):
    held = begun(bank)
    bank.commit_plan("r", 1, [PLAN], [])
    with pytest.raises(MemoryBankError, match="no region 2"):
        bank.commit_region_prompt("r", 1, 2, "words", 0.1)
    with pytest.raises(MemoryBankError, match="is not painted"):
        bank.commit_look("r", 1, 1, 1, LOOK, 0.1)
    bank.commit_painting("r", 1, 1, 1, IMAGE, 1, 0.1)
    for missing in ("diagnosis", "scores", "seam", "accepted"):
        with pytest.raises(ModelError, match="was not measured"):
            bank.commit_look("r", 1, 1, 1, replace(LOOK, **{missing: None}), 0.1)
    for broken in ({"seam": float("nan")}, {"scores": (Score("taste", "1", float("inf")),)}):
        with pytest.raises(ModelError, match="not a number"):
            bank.commit_look("r", 1, 1, 1, replace(LOOK, **broken), 0.1)
    for repair, picture in ((Repair(PLAN), None), (Repair(PLAN, accepted=True), None)):
        with pytest.raises(ModelError):
            bank.commit_repair("r", 1, 1, repair, picture)
    with pytest.raises(ModelError):
        bank.commit_repair("r", 1, 1, Repair(PLAN, accepted=False), IMAGE)
    assert bank.load("r").rounds[0].repairs[0].candidates[0].accepted is None
    with pytest.raises(InvalidInput):
        bank.commit_region_prompt("r", 1, 1, "a\0b", 0.1)
    held.__exit__(None, None, None)


def test_a_listing_leaves_masks_and_weights_in_the_store(bank, home):
    held = begun(bank)
    bank.commit_plan("r", 1, [PLAN], [LEFT])
    held.__exit__(None, None, None)
    for path in (home / "store").rglob("*.png"):
        path.unlink()
    (run,) = bank.runs()
    assert run.rounds[0].repairs[0].plan.weights.size == 0
    with pytest.raises(MemoryBankError, match="missing"):
        bank.load("r")

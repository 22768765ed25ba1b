"""A person's word on a round of repairs: what it undoes, what it changes, and that nobody is asked twice."""

from __future__ import annotations

import numpy as np
import pytest
from inpainting_samples import CASES, bank_at, inpainting_tools, settings

from contracts.records import Review
from controller.inpainting import inpaint, source_map

CASE = CASES[0]


def word(decision, **values):
    return Review(decision, "Ada", "2026-11-21T12:00:00+00:00", **values)


@pytest.fixture
def bank(tmp_path):
    opened = bank_at(tmp_path)
    yield opened
    opened.close()


def repaired(bank, *answers, tools=None, **changes):
    """One run whose rounds are answered one after the other; nobody is asked about those after them."""
    waiting, seen = list(answers), []

    def reviewer(run, proposed):
        seen.append((run.rounds[-1].index, proposed))
        return waiting.pop(0) if waiting else None

    (run,) = inpaint([CASE], tools or inpainting_tools(), bank, settings(**changes), reviewer=reviewer)
    return run, seen


def test_rejected_repairs_are_undone_to_the_last_bit(bank) -> None:
    plain, _ = repaired(bank_at_other(bank))
    assert plain.rounds[0].verdict.accepted and plain.result != plain.rounds[0].image
    run, seen = repaired(bank, word("reject", note="too gray"), rounds=1)
    first = run.rounds[0]
    assert seen[0][1].accepted and not first.verdict.accepted
    assert first.verdict.reason.startswith("rejected by Ada (too gray); the gate: ")
    assert first.result == first.image == run.result
    assert np.array_equal(bank.image(run.result), CASE.image)
    assert not source_map(run, CASE.image.shape[:2]).painted.any() and run.best is None
    assert [repair.accepted for repair in first.repairs] == [True] * len(first.repairs), "the record stays"


def bank_at_other(bank):
    """A second bank beside the first."""
    from pathlib import Path

    return bank_at(Path(str(bank.where()[1])).parent / "other")


def test_after_a_rejection_the_regions_are_tried_again_from_the_original(bank) -> None:
    run, _ = repaired(bank, word("reject"))
    assert len(run.rounds) > 1 and run.rounds[1].image == run.rounds[0].image
    assert len(run.rounds[1].repairs) == len(run.rounds[0].repairs)
    assert run.result != run.rounds[0].image and run.rounds[1].verdict.accepted


def test_a_stop_keeps_what_is_repaired(bank) -> None:
    run, _ = repaired(bank, word("stop"))
    assert run.status == "finished" and run.rounds[-1].verdict.stop == "stopped by Ada"
    assert run.result == run.rounds[-1].result != run.rounds[0].image


def test_thresholds_hold_from_the_next_plan_on(bank) -> None:
    run, _ = repaired(
        bank, word("edit thresholds", thresholds={"dilate_pixels": 3.0, "feather_pixels": 0.0}), rounds=1
    )
    assert run.rounds[0].review.thresholds == {"dilate_pixels": 3.0, "feather_pixels": 0.0}
    everything = word("edit thresholds", thresholds={"min_confidence": 1.0})
    failing = inpainting_tools(gate=Never())
    run, _ = repaired(bank_at_other(bank), everything, tools=failing)
    assert len(run.rounds) == 1 and run.rounds[0].verdict.reason.startswith("thresholds set by Ada")
    longer, _ = repaired(bank_at_other(bank_at_other(bank)), tools=inpainting_tools(gate=Never()))
    assert len(longer.rounds) > 1, "without the threshold the regions would have been tried again"


class Never:
    """A gate that takes nothing."""

    def judge(self, region, before, after, original):
        from contracts.records import Verdict

        return Verdict(False, "never")

    def describe(self):
        return {"name": "never"}


def test_wider_masks_are_planned_after_they_were_asked_for(bank) -> None:
    wider = word("edit thresholds", thresholds={"dilate_pixels": 4.0})
    run, _ = repaired(bank, wider, tools=inpainting_tools(gate=Never()))
    first, second = (r.repairs[0].plan.support.sum() for r in run.rounds[:2])
    assert second > first


def test_the_painter_is_told_what_a_person_wrote(bank) -> None:
    tools = inpainting_tools(gate=Never())
    run, _ = repaired(bank, word("edit prompt", prompt="a plain brick wall"), tools=tools)
    assert "brick" not in (run.rounds[0].repairs[0].prompt or "")
    assert "brick" in run.rounds[1].repairs[0].prompt
    assert run.prompt == "a gray wall", "scores are still taken against the person's first words"


def test_nobody_is_asked_twice_about_a_round(bank) -> None:
    def leave(run, proposed):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inpaint([CASE], inpainting_tools(), bank, settings(), reviewer=leave)
    assert bank.load("one").rounds[0].verdict is None
    bank.interrupt_after = bank.commits + 1
    with pytest.raises(KeyboardInterrupt):
        inpaint([CASE], inpainting_tools(), bank, settings(), reviewer=lambda run, _: word("reject"))
    assert bank.load("one").rounds[0].review == word("reject")
    bank.interrupt_after = None
    run, seen = repaired(bank)
    assert 1 not in [index for index, _ in seen]
    assert run.rounds[0].review == word("reject") and run.rounds[0].result == run.rounds[0].image

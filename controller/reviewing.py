"""A person's word on a round: when it is asked for, and what it does to the gate's verdict. Pure functions.

A review is kept before the verdict, so a run that is taken up again asks nobody twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from contracts.records import Review, Round, Run, Verdict
from controller.gate import ROUND_LIMIT, GateSettings, ending, judge, severity

Reviewer: TypeAlias = Callable[[Run, Verdict], Review | None]
"""Asked about a run's last round, with the verdict that the gate proposes; None if nobody is asked."""
Moment: TypeAlias = Literal["none", "final", "each-round", "uncertain"]
"""When a person is asked."""

DOUBTFUL = (0.3, 0.7)
"""A finding whose confidence lies between these may well be none."""


def asks(moment: Moment, run: Run, proposed: Verdict) -> bool:
    """Is a person asked about the last round of a run?"""
    match moment:
        case "none":
            return False
        case "final":
            return proposed.stop is not None
        case "each-round":
            return True
        case "uncertain":
            return uncertain(run.rounds)


def uncertain(rounds: Sequence[Round]) -> bool:
    """Do the figures of the last round disagree, or is one of its findings doubtful?

    They disagree if there is less to find than in the best round before but the selection score fell, or more
    to find and it rose.
    """
    last = rounds[-1]
    found = last.diagnosis.findings if last.diagnosis else ()
    if any(DOUBTFUL[0] <= finding.confidence <= DOUBTFUL[1] for finding in found):
        return True
    if last.repairs is not None:
        decided = {repair.accepted for repair in last.repairs}
        return decided == {True, False}
    best = next((r for r in reversed(rounds[:-1]) if r.verdict is not None and r.verdict.accepted), None)
    if best is None or not best.diagnosis or not best.scores or not last.diagnosis or not last.scores:
        return False
    less = severity(best.diagnosis) - severity(last.diagnosis)
    gain = last.scores[0].value - best.scores[0].value
    return less * gain < 0


def counted(rounds: Sequence[Round]) -> list[Round]:
    """The rounds as the gate sees them: without findings less sure than a person's last threshold."""
    least = thresholds(rounds).get("min_confidence")
    return list(rounds) if least is None else [_without_doubts(item, least) for item in rounds]


def thresholds(rounds: Sequence[Round]) -> dict[str, float]:
    """What a person last set, each by its name."""
    total: dict[str, float] = {}
    for item in rounds:
        if item.review is not None:
            total.update(item.review.thresholds)
    return total


def told(rounds: Sequence[Round]) -> str:
    """The prompt that a person wrote for the round that comes next; empty if none."""
    review = rounds[-1].review if rounds else None
    return review.prompt if review is not None and review.decision == "edit prompt" else ""


def reviewed(rounds: Sequence[Round], settings: GateSettings) -> Verdict:
    """The word on the last of a regeneration's rounds: the gate's, as the person's review changes it."""
    *earlier, last = counted(rounds)
    verdict = judge(last, earlier, settings)
    review = last.review
    if review is None:
        return verdict
    match review.decision:
        case "accept" | "reject":
            accepted = review.decision == "accept"
            return Verdict(
                accepted, with_review(verdict.reason, review), ending(last, accepted, earlier, settings)
            )
        case "edit prompt":
            stop = ROUND_LIMIT if last.index >= settings.rounds else None
            return replace(verdict, reason=with_review(verdict.reason, review), stop=stop)
        case "stop":
            return replace(
                verdict, reason=with_review(verdict.reason, review), stop=f"stopped by {review.who}"
            )
        case _:
            return replace(verdict, reason=with_review(verdict.reason, review))


WORDS = {
    "accept": "accepted by {who}",
    "reject": "rejected by {who}",
    "edit prompt": "the next prompt is by {who}",
    "edit thresholds": "thresholds set by {who}",
    "stop": "stopped by {who}",
    "gate": "left to the gate by {who}",
}


def with_review(reason: str, review: Review) -> str:
    """The gate's reason with the person's word before it."""
    note = f" ({review.note})" if review.note else ""
    return f"{WORDS[review.decision].format(who=review.who)}{note}; the gate: {reason}"


def _without_doubts(item: Round, least: float) -> Round:
    if item.diagnosis is None:
        return item
    sure = tuple(finding for finding in item.diagnosis.findings if finding.confidence >= least)
    return replace(item, diagnosis=replace(item.diagnosis, findings=sure))

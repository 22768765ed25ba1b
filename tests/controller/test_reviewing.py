"""A person's word on a round: when it is asked for, what it does, and that nobody is asked twice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from loop_samples import DictBank, contents, scripted_tools

from contracts.records import Diagnosis, Finding, Repair, Review, Round, Run, Score, Verdict
from controller.regeneration import Case, RegenerationSettings, regenerate
from controller.reviewing import asks, uncertain
from memory_bank import open_memory_bank

CASE = Case("one", "a red cone on a wooden table", 7)
SETTINGS = RegenerationSettings(rounds=4, patience=4, score_tolerance=0.2)


def word(decision, **values):
    return Review(decision, "Ada", "2026-11-21T12:00:00+00:00", **values)


class Asked:
    """A reviewer that answers as told, round by round, and remembers what it saw."""

    def __init__(self, *answers) -> None:
        self.answers, self.seen = list(answers), []

    def __call__(self, run, proposed):
        self.seen.append((run.rounds[-1].index, proposed))
        return self.answers.pop(0) if self.answers else None


@pytest.fixture(params=["dictionary", "database"])
def bank(request, tmp_path):
    if request.param == "dictionary":
        return DictBank()
    return open_memory_bank(f"sqlite:///{tmp_path}/bank.sqlite3", str(tmp_path / "store"))


def run_with(bank, *answers, settings=SETTINGS):
    asked = Asked(*answers)
    (run,) = regenerate([CASE], scripted_tools(), bank, settings, reviewer=asked)
    return run, asked


def test_a_reviewer_that_says_nothing_changes_nothing(bank) -> None:
    run, asked = run_with(bank)
    (plain,) = regenerate([CASE], scripted_tools(), (other := DictBank()), SETTINGS)
    assert contents([run], bank) == contents([plain], other)
    assert [index for index, _ in asked.seen] == [item.index for item in run.rounds] and len(run.rounds) > 1


def test_rejected_and_accepted_against_the_gate(bank) -> None:
    run, asked = run_with(bank, word("reject", note="too dark"), word("accept"))
    first, second = run.rounds[:2]
    assert asked.seen[0][1].accepted and not first.verdict.accepted
    assert first.verdict.reason.startswith("rejected by Ada (too dark); the gate: first picture")
    assert second.verdict.accepted and second.verdict.reason.startswith("accepted by Ada")
    assert first.review == word("reject", note="too dark")


def test_a_stop_ends_the_run_with_its_best_picture(bank) -> None:
    run, _ = run_with(bank, word("stop"))
    assert run.status == "finished" and len(run.rounds) == 1
    assert run.rounds[0].verdict.stop == "stopped by Ada" and run.best is run.rounds[0]


def test_the_next_picture_is_painted_from_the_persons_prompt(bank) -> None:
    run, _ = run_with(bank, word("edit prompt", prompt="a tall red cone"))
    first, second = run.rounds[:2]
    assert first.revision.prompt == second.prompt == "a tall red cone"
    assert first.verdict.reason.startswith("the next prompt is by Ada")


def test_a_persons_prompt_goes_on_where_the_gate_would_end(bank) -> None:
    plain, _ = run_with(DictBank())
    last = len(plain.rounds)
    assert plain.rounds[-1].verdict.stop and last < SETTINGS.rounds
    run, _ = run_with(bank, *[None] * (last - 1), word("edit prompt", prompt="a small red cone"))
    assert len(run.rounds) > last and run.rounds[last].prompt == "a small red cone"


def test_findings_below_the_threshold_no_longer_count(bank) -> None:
    plain, _ = run_with(DictBank())
    assert plain.rounds[0].diagnosis.findings
    run, _ = run_with(bank, word("edit thresholds", thresholds={"min_confidence": 1.0}))
    assert run.rounds[0].diagnosis.findings, "the record keeps what was found"
    assert run.rounds[0].verdict.stop == "no artifacts found" and len(run.rounds) == 1
    assert run.rounds[0].review.thresholds == {"min_confidence": 1.0}


def test_nobody_is_asked_twice_about_a_round(bank) -> None:
    def leave(run, proposed):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        regenerate([CASE], scripted_tools(), bank, SETTINGS, reviewer=leave)
    assert bank.load("one").status == "interrupted"
    first = bank.load("one").rounds[0]
    assert first.verdict is None and first.scores is not None
    with pytest.raises(KeyboardInterrupt):
        regenerate(
            [CASE],
            scripted_tools(),
            bank,
            SETTINGS,
            reviewer=lambda run, _: word("gate") if run.rounds[-1].index == 1 else leave(run, _),
        )
    run, asked = run_with(bank)
    assert [index for index, _ in asked.seen] == [item.index for item in run.rounds[1:]]
    assert run.rounds[0].review == word("gate")


def finding(confidence: float, rows: int) -> Finding:
    mask = np.zeros((8, 8), bool)
    mask[:rows] = True
    return Finding(mask, "a dent", "it is dented", "structure", confidence)


def judged(index: int, rows: int, score: float, confidence: float = 0.9) -> Round:
    found = Diagnosis((finding(confidence, rows),)) if rows else Diagnosis(())
    scores = (Score("taste", "1", score),)
    return Round(index, "a cone", 1, "digest", found, scores, verdict=Verdict(True, "", None))


@pytest.mark.parametrize(
    ("rounds", "doubtful"),
    [
        ([judged(1, 4, 0.5)], False),
        ([judged(1, 4, 0.5, confidence=0.5)], True),
        ([judged(1, 4, 0.5), judged(2, 2, 0.6)], False),
        ([judged(1, 4, 0.5), judged(2, 2, 0.4)], True),
        ([judged(1, 2, 0.5), judged(2, 4, 0.6)], True),
        ([judged(1, 2, 0.5), judged(2, 4, 0.4)], False),
    ],
)
def test_uncertain_is_where_the_figures_disagree(rounds, doubtful) -> None:
    assert uncertain(rounds) is doubtful


def test_repairs_are_uncertain_where_some_stay_and_some_do_not() -> None:
    def repaired(*words):
        repairs = tuple(Repair(None, accepted=accepted) for accepted in words)
        return replace(judged(1, 0, 0.5), repairs=repairs)

    assert uncertain([repaired(True, False)])
    assert not uncertain([repaired(True, True)]) and not uncertain([repaired(False)])


def test_a_person_is_asked_when_they_said() -> None:
    run = Run("one", "regeneration", "a cone", 1, {}, "running", "", (judged(1, 4, 0.5),))
    on, over = Verdict(True, "", None), Verdict(True, "", "round limit reached")
    assert [asks(moment, run, on) for moment in ("none", "final", "each-round", "uncertain")] == [
        False,
        False,
        True,
        False,
    ]
    assert asks("final", run, over)

"""What rounds teach, what is asked, and what the modifier makes of the answer; the loop learns, exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from loop_samples import TABLETOP, contents, scripted_tools

from contracts.records import (
    CATEGORIES,
    Answer,
    Box,
    Candidate,
    Diagnosis,
    Finding,
    Lesson,
    RegionPlan,
    Repair,
    Revision,
    RevisionRequest,
    Round,
    Score,
    Symptom,
    Trial,
    Verdict,
)
from controller.experience import additions, painter_key, region_trials, round_trials, symptoms, topic
from controller.modifiers import MOST_AHEAD, RuleBasedModifier
from controller.regeneration import Case, RegenerationSettings, regenerate
from memory_bank import SqlMemoryBank, open_memory_bank
from memory_bank.experience import LessonFilter
from prompts.lexicon import parse_lexicon

CONE = "a red cone on a wooden table"
MASK = np.ones((4, 4), bool)
LEXICON = parse_lexicon(
    "\n".join(
        f'[[constraint]]\ncategory = "{category}"\nphrase = "{phrase}"'
        for category, phrase in (
            ("physics", "soft light"),
            ("physics", "one lamp"),
            ("physics", "morning sun"),
            ("structure", "straight lines"),
            ("distortion", "fine grain"),
        )
    ),
    "test",
)


def finding(category="physics", phrase="the shadow of the cone") -> Finding:
    return Finding(MASK, phrase, "", category, 0.9)


SHADOW = (finding(),)


def lesson(words, gone, tried, plain=(40, 80), category="physics", about="shadow") -> Lesson:
    return Lesson(Symptom(category, about), about, words, tried, gone, plain[1], plain[0])


def revise(*lessons: Lesson, findings=SHADOW, current=CONE) -> Revision:
    request = RevisionRequest(CONE, current, tuple(findings), lessons=tuple(lessons))
    return RuleBasedModifier(LEXICON, lambda _: True).revise([request])[0]


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("the shadow of the red cone", "shadow"),
        ("the left hands of the woman", "hand"),
        ("the woman's left hand", "hand"),
        ("two fingers", "finger"),
        ("shadow falling to the left", "shadow"),
        ("face", "face"),
        ("the light that comes from behind", "light"),
        ("glass", "glass"),
        ("", ""),
        ("of the", ""),
        ("手", "手"),
        ("12", "12"),
        ("x" * 500, "x" * 64),
    ],
)
def test_a_phrase_is_about_one_thing(phrase: str, expected: str) -> None:
    assert topic(phrase) == expected


def test_each_kind_of_flaw_is_asked_about_once() -> None:
    found = [finding(), finding(phrase="the shadow of the ball"), finding("structure", "the shadow")]
    assert [(s.category, s.topic) for s in symptoms(found)] == [
        ("physics", "shadow"),
        ("structure", "shadow"),
    ]


def test_a_painter_is_known_by_its_weights() -> None:
    assert painter_key({"name": "sd", "digest": "0123456789abcdef"}) == "sd@0123456789ab"
    assert painter_key({"name": "sd", "steps": 4}) == "sd"


def test_what_a_prompt_says_more_than_others() -> None:
    said = additions(f"{CONE}, soft light, lit by one lamp; {'very ' * 9}long", (CONE, f"{CONE}, soft light"))
    assert said == ["lit by one lamp"]


def round_of(index, prompt=CONE, found=(), answers=(), score=0.5) -> Round:
    revision = Revision("next", answers=tuple(answers))
    return Round(
        index,
        prompt,
        1,
        diagnosis=Diagnosis(tuple(found)),
        scores=(Score("taste", "1", score),),
        verdict=Verdict(True, ""),
        revision=revision,
    )


def taught(*rounds: Round, answered=()) -> set[tuple[str, str, str, bool, float | None]]:
    trials = round_trials(CONE, rounds, answered, "taste", "me")
    assert all(trial.painter == "me" for trial in trials)
    return {(t.symptom.category, t.symptom.topic, t.words, t.gone, t.gain) for t in trials}


def test_a_plain_picture_says_how_often_each_category_is_flawed() -> None:
    assert taught(round_of(1, found=[finding()])) == {
        ("physics", "", "", False, None),
        ("structure", "", "", True, None),
        ("distortion", "", "", True, None),
    }


def test_words_are_tried_against_what_they_answer() -> None:
    shadow, dent = finding(), finding("structure", "the tip")
    answer = Answer("soft light", "physics", shadow.phrase)
    first = round_of(1, found=[shadow, dent], answers=[answer])
    second = round_of(2, f"{CONE}, soft light", [finding("structure", "tip")], score=0.75)
    assert taught(first, second, answered=[shadow, dent]) == {
        ("physics", "", "soft light", True, None),
        ("physics", "shadow", "soft light", True, 0.25),
        ("structure", "tip", "", False, 0.25),
    }


def test_words_stay_on_trial_as_long_as_the_prompt_says_them() -> None:
    shadow = finding()
    answer = Answer("soft light", "physics", shadow.phrase)
    rounds = [
        round_of(1, found=[shadow], answers=[answer]),
        round_of(2, f"{CONE}, soft light", [shadow]),
        round_of(3, f"{CONE}, soft light", score=0.25),
    ]
    assert taught(*rounds, answered=[shadow]) == {
        ("physics", "", "soft light", True, None),
        ("physics", "shadow", "soft light", True, -0.25),
    }


def test_scores_of_two_versions_are_no_gain() -> None:
    shadow = finding()
    second = replace(round_of(2, found=[shadow]), scores=(Score("taste", "2", 0.9),))
    assert ("physics", "shadow", "", False, None) in taught(
        round_of(1, found=[shadow]), second, answered=[shadow]
    )


def test_a_region_teaches_whether_its_repair_stayed() -> None:
    plan = RegionPlan((finding(),), MASK, MASK.astype(np.uint8), Box(0, 0, 4, 4), (8, 8), 1.0)
    seen = Candidate(1, "x", scores=(Score("taste", "1", 0.75),), accepted=True)
    answers = (Answer("soft light", "physics", finding().phrase),)
    done = Repair(plan, f"{CONE}, soft light", (seen,), True, "", 1, "p", answers)
    before = (Score("taste", "1", 0.5),)
    kind = symptoms(plan.findings)[0]
    assert region_trials(done, before, (), "me") == [Trial("me", kind, "soft light", True, 0.25)]
    undone = replace(done, accepted=False, chosen=None, answers=())
    assert region_trials(undone, before, (), "me") == [Trial("me", kind, "", False, None)]
    assert region_trials(undone, before, answers, "me") == [Trial("me", kind, "soft light", False, None)]


def test_without_lessons_the_lexicon_leads() -> None:
    made = revise()
    assert made.prompt == f"{CONE}, soft light"
    assert made.answers == (Answer("soft light", "physics", finding().phrase),)


def test_what_is_proven_leads_and_says_why() -> None:
    made = revise(lesson("one lamp", 58, 60))
    assert made.prompt == f"{CONE}, one lamp"
    assert made.reason == 'added "one lamp" (physics: gone in 58 of 60, without it in 40 of 80)'


def test_one_lucky_case_does_not_lead() -> None:
    assert revise(lesson("one lamp", 1, 1)).prompt == f"{CONE}, soft light"
    assert revise(lesson("one lamp", 3, 3)).prompt == f"{CONE}, soft light"


def test_what_is_proven_to_harm_comes_last() -> None:
    harmful = lesson("soft light", 2, 60)
    assert revise(harmful).prompt == f"{CONE}, one lamp"
    said = f"{CONE}, one lamp, morning sun"
    assert revise(harmful, current=said).prompt == f"{CONE}, soft light, one lamp, morning sun"


def test_a_lesson_about_something_else_changes_nothing() -> None:
    assert revise(lesson("one lamp", 58, 60, about="hand")).prompt == f"{CONE}, soft light"
    assert revise(lesson("one lamp", 58, 60, category="structure")).prompt == f"{CONE}, soft light"


def test_what_is_proven_to_keep_other_flaws_away_is_added_with_an_answer() -> None:
    ahead = [
        lesson("fine grain", 79, 80, category="distortion", about=""),
        lesson("straight lines", 2, 2, category="structure", about=""),
        lesson("not of the lexicon", 80, 80, category="structure", about=""),
    ]
    made = revise(*ahead)
    assert made.prompt == f"{CONE}, soft light, fine grain" and MOST_AHEAD == 2
    assert made.answers[1:] == (Answer("fine grain", "distortion"),)
    assert made.addressed == (finding().phrase,)
    # Nothing is added for its own sake.
    assert revise(*ahead, findings=()).prompt == CONE


# --- the loop


@pytest.fixture
def bank(tmp_path) -> SqlMemoryBank:
    return open_memory_bank(f"sqlite:///{tmp_path}/b.sqlite3", f"{tmp_path}/store")


LEARNING = RegenerationSettings(rounds=3, score_tolerance=1.0, memory=True)


def cases(first: int, number: int) -> list[Case]:
    return [Case(f"run-{i}", CONE, i) for i in range(first, first + number)]


def clean(runs) -> int:
    return sum(not run.best.diagnosis.findings for run in runs)


def test_later_runs_repair_more_because_of_earlier_ones(bank, tmp_path) -> None:
    plain = open_memory_bank(f"sqlite:///{tmp_path}/plain.sqlite3", f"{tmp_path}/plain")
    two = replace(LEARNING, rounds=2)
    for start in range(0, 30, 10):
        regenerate(cases(start, 10), scripted_tools(), bank, two)
    told = regenerate(cases(30, 20), scripted_tools(), bank, two)
    untold = regenerate(cases(30, 20), scripted_tools(), plain, replace(two, memory=False))
    assert clean(told) > clean(untold) + 5
    words = {
        (x.lesson.symptom.category, x.lesson.words) for x in bank.lessons(LessonFilter()) if x.lesson.helps
    }
    assert words >= set(zip(CATEGORIES, TABLETOP.phrases, strict=True))


def test_what_runs_beside_it_changes_nothing(bank, tmp_path) -> None:
    other = open_memory_bank(f"sqlite:///{tmp_path}/other.sqlite3", f"{tmp_path}/other")
    for each in (bank, other):
        regenerate(cases(0, 20), scripted_tools(), each, LEARNING)
    alone = regenerate(cases(99, 1), scripted_tools(), bank, LEARNING)
    together = regenerate(cases(90, 12), scripted_tools(), other, LEARNING)
    assert contents(alone, bank) == contents(together[9:10], other)
    assert bank.recollections("run-99") == other.recollections("run-99") != []


def test_what_it_was_told_stands_whatever_is_learned_meanwhile(bank, monkeypatch) -> None:
    regenerate(cases(0, 20), scripted_tools(), bank, LEARNING)
    before = [run.run_id for run in bank.runs()]
    commit = SqlMemoryBank.commit_revision

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SqlMemoryBank, "commit_revision", killed)
    with pytest.raises(KeyboardInterrupt):
        regenerate(cases(50, 1), scripted_tools(), bank, LEARNING)
    told = bank.recollections("run-50")
    monkeypatch.setattr(SqlMemoryBank, "commit_revision", commit)
    assert len(told) == 1 and "run-50" not in before
    regenerate(cases(60, 20), scripted_tools(), bank, LEARNING)
    regenerate(cases(50, 1), scripted_tools(), bank, LEARNING)
    assert bank.recollections("run-50")[:1] == told


def test_without_memory_nothing_is_told_and_everything_is_learned(bank) -> None:
    regenerate(cases(0, 3), scripted_tools(), bank, replace(LEARNING, memory=False))
    assert bank.recollections("run-0") == [] and bank.lessons(LessonFilter()) != []
    assert "memory" not in bank.load("run-0").settings

"""What runs taught: counted once, told as it stood when a run began, found by other words for a thing."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import pytest
from bank_samples import BEGIN

from contracts.errors import AlreadyCommitted, InvalidInput
from contracts.records import Lesson, Recollection, Symptom, Trial, Verdict
from memory_bank import SqlMemoryBank, open_memory_bank
from memory_bank.experience import LessonFilter

HAND = Symptom("structure", "hand", "the left hand of the woman")
SHADOW = Symptom("physics", "shadow", "the shadow of the cone")


def trial(words: str, gone: bool, about: Symptom = HAND, gain: float | None = None) -> Trial:
    return Trial("painter", about, words, gone, gain)


def teach(bank: SqlMemoryBank, run_id: str, rounds: Iterable[list[Trial]]) -> None:
    """A run whose rounds teach these."""
    with bank.begin(run_id, **BEGIN):
        for index, trials in enumerate(rounds, start=1):
            bank.open_round(run_id, index, "p", index)
            bank.commit_verdict(run_id, index, Verdict(True, ""), trials)
        bank.finish(run_id, "finished")


def often(words: str, gone: int, tried: int, about: Symptom = HAND) -> list[list[Trial]]:
    """A round for each trial, the first `gone` of them good."""
    return [[trial(words, number < gone, about)] for number in range(tried)]


def told(bank: SqlMemoryBank, run_id: str, *asked: Symptom, painter: str = "painter") -> tuple[Lesson, ...]:
    with bank.begin(run_id, **BEGIN) as run:
        if not run.rounds:
            bank.open_round(run_id, 1, "p", 1)
        return bank.recall(run_id, 1, 0, painter, asked)


def test_a_lesson_is_the_sum_of_its_trials(bank: SqlMemoryBank) -> None:
    rounds = [
        [trial("five fingers", True, gain=0.5), trial("", False)],
        [trial("five fingers", False, gain=-0.25), trial("soft light", True, SHADOW)],
        [trial("five  fingers ", True)],
    ]
    teach(bank, "one", rounds)
    (fingers,) = [one for one in bank.lessons(LessonFilter()) if one.lesson.words == "five fingers"]
    assert (fingers.painter, fingers.kind) == ("painter", "regeneration")
    lesson = fingers.lesson
    assert (lesson.tried, lesson.gone, lesson.plain_tried, lesson.plain_gone) == (3, 2, 1, 0)
    assert lesson.gain == pytest.approx(0.125), "the mean of those trials whose score is known"
    assert all(one.lesson.words for one in bank.lessons(LessonFilter())), "new draws are not listed"


def test_a_verdict_teaches_once(bank: SqlMemoryBank) -> None:
    teach(bank, "one", [[trial("five fingers", True)]])
    with bank.begin("one", **BEGIN), pytest.raises(AlreadyCommitted):
        bank.commit_verdict("one", 1, Verdict(True, ""), [trial("five fingers", True)])
    assert [one.lesson.tried for one in bank.lessons(LessonFilter())] == [1]


def test_a_run_is_told_what_was_known_when_it_began(bank: SqlMemoryBank) -> None:
    teach(bank, "before", often("five fingers", 8, 10))
    with bank.begin("now", **BEGIN):
        bank.open_round("now", 1, "p", 1)
        teach(bank, "meanwhile", often("five fingers", 0, 30))
        (lesson,) = bank.recall("now", 1, 0, "painter", [HAND])
        assert (lesson.tried, lesson.gone) == (10, 8)
    assert told(bank, "now", SHADOW) == (lesson,), "the first answer stands, whatever is asked"
    assert bank.recollections("now") == [Recollection(1, 0, (lesson,))]
    (later,) = told(bank, "later", HAND)
    assert (later.tried, later.gone) == (40, 8)


def test_what_a_run_was_told_goes_with_it(bank: SqlMemoryBank) -> None:
    lesson = Lesson(HAND, "hand", "five fingers", 9, 9, 0, 0)
    bank.keep_recollections("now", [Recollection(1, 0, (lesson,))])
    assert told(bank, "now", SHADOW) == (lesson,)


def test_other_words_for_the_same_thing_are_found(bank: SqlMemoryBank) -> None:
    teach(bank, "before", often("five fingers", 8, 10))
    for asked in ("hands", "finger", "thumb"):
        symptom = Symptom("structure", asked, f"the {asked} of the left hand")
        assert [x.words for x in told(bank, f"about-{asked}", symptom)] == ["five fingers"], asked
    assert told(bank, "other", Symptom("structure", "wheel", "the wheel of the cart")) == ()
    assert told(bank, "category", Symptom("physics", "hand", "the left hand")) == ()
    assert told(bank, "stranger", HAND, painter="somebody else") == ()


def test_of_many_related_lessons_those_of_most_trials_are_looked_at(
    bank: SqlMemoryBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory_bank.experience.MOST_LOOKED_AT", 5)
    weak = [[trial(f"words {n}", False, Symptom("structure", f"thing {n}", "the finger"))] for n in range(8)]
    good = often("five fingers", 9, 9, Symptom("structure", "palm", "the finger of the palm"))
    teach(bank, "before", [*weak, *good])
    assert told(bank, "now", Symptom("structure", "finger", "the finger"))[0].words == "five fingers"


def test_few_trials_of_a_thing_make_room_for_those_of_its_category(bank: SqlMemoryBank) -> None:
    of_all = Symptom("structure")
    teach(bank, "before", [*often("five fingers", 2, 2), *often("five fingers", 30, 40, of_all)])
    (lesson,) = told(bank, "now", HAND)
    assert (lesson.topic, lesson.tried, lesson.symptom) == ("", 40, HAND)
    teach(bank, "more", often("five fingers", 4, 4))
    (lesson,) = told(bank, "later", HAND)
    assert (lesson.topic, lesson.tried) == ("hand", 6)


def test_the_best_proven_comes_first_and_only_the_best_are_told(bank: SqlMemoryBank) -> None:
    rounds = [*often("lucky", 2, 2), *often("proven", 27, 30), *often("", 10, 30)]
    for number in range(9):
        rounds += often(f"useless {number}", 1, 6)
    teach(bank, "before", rounds)
    found = told(bank, "now", HAND)
    assert [lesson.words for lesson in found][:2] == ["proven", "lucky"] and len(found) == 6
    assert found[0].helps and not found[1].helps
    assert (found[0].plain_gone, found[0].plain_tried) == (10, 30)


def test_words_that_keep_away_what_was_not_found_are_told_if_proven(bank: SqlMemoryBank) -> None:
    rounds = [*often("soft light", 39, 40, Symptom("physics")), *often("", 10, 40, Symptom("physics"))]
    teach(bank, "before", [*rounds, *often("perhaps", 2, 2, Symptom("distortion"))])
    assert [lesson.words for lesson in told(bank, "now", HAND)] == ["soft light"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({}, ["proven", "harmful"]),
        ({"category": "structure"}, ["proven"]),
        ({"kind": "inpainting"}, []),
        ({"painter": "PAINT"}, ["proven", "harmful"]),
        ({"painter": "p_inter"}, []),
        ({"text": "HANDS"}, ["proven"]),
        ({"text": "harm"}, ["harmful"]),
        ({"text": "50%"}, []),
        ({"text": '"; DROP TABLE lessons; -- AND OR NOT NEAR( *'}, []),
        ({"text": "手"}, []),
        ({"min_tried": 21}, ["proven"]),
        ({"order": "tried", "limit": 1}, ["proven"]),
    ],
)
def test_lessons_are_filtered(bank: SqlMemoryBank, wanted: dict[str, object], words: list[str]) -> None:
    rounds = [*often("proven", 29, 30), *often("", 5, 20), *often("", 18, 20, SHADOW)]
    teach(bank, "before", [*rounds, *often("harmful", 1, 20, SHADOW)])
    found = bank.lessons(LessonFilter(**wanted))  # type: ignore[arg-type]
    assert [one.lesson.words for one in found] == words
    assert all(one.lesson.helps == (one.lesson.words == "proven") for one in found)
    assert all(one.lesson.fails == (one.lesson.words == "harmful") for one in found)


@pytest.mark.parametrize("wanted", [{"kind": "other"}, {"category": "odd"}, {"limit": -1}, {"min_tried": -1}])
def test_filters_that_nobody_could_mean(wanted: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        LessonFilter(**wanted)  # type: ignore[arg-type]


def test_runs_that_learn_the_same_at_the_same_time_lose_nothing(bank: SqlMemoryBank) -> None:
    both = [trial("five fingers", True), trial("soft light", False, SHADOW)]
    errors: list[BaseException] = []

    def work(name: str, trials: list[Trial]) -> None:
        own = open_memory_bank()
        try:
            teach(own, name, [trials] * 10)
        except BaseException as error:
            errors.append(error)
        finally:
            own.close()

    orders = (both, both[::-1], both)
    threads = [threading.Thread(target=work, args=(f"run-{n}", order)) for n, order in enumerate(orders)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert {one.lesson.words: one.lesson.tried for one in bank.lessons(LessonFilter())} == {
        "five fingers": 30,
        "soft light": 30,
    }

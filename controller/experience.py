"""What a round or a region teaches, and what experience is asked about. Pure functions.

What was tried is known by the revision's answers (words, and the finding that each is for), and what came of
it by the next picture's findings. Besides, every picture of a plain prompt says how often each category is
flawed without any further words, and every picture of a prompt with such words how often with them. So words
are found which keep flaws away that are not there yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import dropwhile, takewhile

from contracts.records import (
    CATEGORIES,
    Answer,
    Category,
    Diagnosis,
    Finding,
    Lesson,
    Repair,
    Round,
    Score,
    Symptom,
    Trial,
)
from controller.prompt_rules import says
from controller.subject import words_of
from prompts.words import load_words

LONGEST_ADDITION = 8
"""Words; a longer part of a prompt is a sentence about the scene."""
_OWNED = re.compile(r"\b(?:of|on|in|at|under|above|behind|between|near)\b.*")
_DOING = ("ing", "ed")


def painter_key(described: Mapping[str, object]) -> str:
    """Whose experience it is: the name, and the digest of the weights where there is one."""
    digest = described.get("digest")
    return f"{described.get('name', '')}@{str(digest)[:12]}" if digest else str(described.get("name", ""))


def topic(phrase: str) -> str:
    """One word for what a finding's phrase is about: "the left hands of the woman" is about a "hand".

    Empty where no word is left.
    """
    words = load_words()
    owner = _OWNED.sub("", phrase.casefold()).strip() or phrase.casefold()
    said = list(dropwhile(words.function.__contains__, words_of(owner)))
    name = list(takewhile(lambda word: word not in words.function, said))
    things = [word for word in name if word not in words.relations and word not in words.numbers] or name
    named = [word for word in things if not word.endswith(_DOING)] or things
    return _singular(words.same(named[-1]))[:64] if named else ""


def symptom(finding: Finding) -> Symptom:
    """What experience about a finding goes by."""
    return Symptom(finding.category, topic(finding.phrase), finding.phrase)


def symptoms(findings: Sequence[Finding]) -> tuple[Symptom, ...]:
    """Of all findings, each kind once."""
    kinds = {(s.category, s.topic): s for s in map(symptom, findings)}
    return tuple(kinds.values())


def about(finding: Finding, lessons: Sequence[Lesson]) -> list[Lesson]:
    """The lessons that answer a finding, in their order."""
    if not lessons:
        return []
    wanted = (finding.category, topic(finding.phrase))
    return [lesson for lesson in lessons if (lesson.symptom.category, lesson.symptom.topic) == wanted]


def ahead(findings: Sequence[Finding], lessons: Sequence[Lesson]) -> list[Lesson]:
    """Lessons about categories of which nothing was found: words proven to keep them away."""
    found = {finding.category for finding in findings}
    return [x for x in lessons if not x.symptom.topic and x.symptom.category not in found and x.helps]


def evidence(lesson: Lesson) -> str:
    """`gone in 57 of 60 pictures, without it in 40 of 100`."""
    said = f"gone in {lesson.gone} of {lesson.tried}"
    return (
        f"{said}, without it in {lesson.plain_gone} of {lesson.plain_tried}" if lesson.plain_tried else said
    )


def additions(prompt: str, before: Sequence[str]) -> list[str]:
    """Parts of a prompt between commas that none of the prompts before says, as far as they are short."""
    parts = [" ".join(part.split()) for part in re.split(r"[,;.]", prompt)]
    short = [part for part in parts if part and len(part.split()) <= LONGEST_ADDITION]
    return [part for part in dict.fromkeys(short) if not any(says(other, part) for other in before)]


def round_trials(
    user_prompt: str, rounds: Sequence[Round], answered: Sequence[Finding], score: str, painter: str
) -> list[Trial]:
    """What the last of a run's rounds taught, `answered` being the findings that its prompt was to answer and
    `score` the name of the one that selects. The round must be diagnosed."""
    now, earlier = rounds[-1], rounds[:-1]
    assert now.diagnosis is not None
    given = [a for r in earlier if r.revision is not None for a in r.revision.answers]
    in_force = [answer for answer in given if says(now.prompt, answer.words)]
    trials = _of_categories(now.diagnosis, in_force, now.prompt == user_prompt, painter)
    if not earlier or earlier[-1].revision is None:
        return trials
    new, gain = earlier[-1].revision.answers, _gain(now.scores, earlier[-1].scores, score)
    left = {(finding.category, topic(finding.phrase)) for finding in now.diagnosis.findings}
    for finding in answered:
        kind = symptom(finding)
        gone = (kind.category, kind.topic) not in left
        trials += [
            Trial(painter, kind, words, gone, gain)
            for words in _words_for(finding, new) or _words_of(finding.category, in_force) or [""]
            if kind.topic
        ]
    return trials


def region_trials(
    repair: Repair, before: Sequence[Score], given: Sequence[Answer], painter: str
) -> list[Trial]:
    """What a decided region taught. `before` are the scores of the picture without the repair, `given` the
    answers that earlier tries of this place were painted with."""
    gain = None
    if repair.chosen is not None:
        after = repair.candidates[repair.chosen - 1].scores
        gain = _gain(after, before, before[0].name) if before else None
    in_force = [answer for answer in given if says(repair.prompt or "", answer.words)]
    return [
        Trial(painter, kind, words, bool(repair.accepted), gain)
        for finding in repair.plan.findings
        if (kind := symptom(finding)).topic
        for words in _words_for(finding, repair.answers) or _words_of(finding.category, in_force) or [""]
    ]


def _of_categories(found: Diagnosis, in_force: Sequence[Answer], plain: bool, painter: str) -> list[Trial]:
    """How a picture of a plain prompt, or of one with known words, came out by category."""
    flawed = {finding.category for finding in found.findings}
    if in_force:
        pairs = dict.fromkeys((answer.category, answer.words) for answer in in_force)
    else:
        pairs = dict.fromkeys((category, "") for category in CATEGORIES) if plain else {}
    return [Trial(painter, Symptom(category), words, category not in flawed) for category, words in pairs]


def _words_for(finding: Finding, answers: Sequence[Answer]) -> list[str]:
    named = (finding.category, finding.phrase)
    return list(dict.fromkeys(a.words for a in answers if (a.category, a.phrase) == named))


def _words_of(category: Category, answers: Sequence[Answer]) -> list[str]:
    return list(dict.fromkeys(answer.words for answer in answers if answer.category == category))


def _gain(after: Sequence[Score] | None, before: Sequence[Score] | None, name: str) -> float | None:
    """How much the score of that name rose, if both are of one scorer in one version."""
    one = next((s for s in after or () if s.name == name), None)
    two = next((s for s in before or () if s.name == name), None)
    if one is None or two is None or one.version != two.version:
        return None
    return one.value - two.value


def _singular(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if plural else word

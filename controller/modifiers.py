"""From findings to a prompt that says what should be seen, by rule.

The person's prompt always comes first, word for word; constraints from a lexicon follow it. What earlier
rounds added stays, so the prompt gathers the answers to everything found so far (the memory of the paper's
regeneration loop, arXiv 2503.15264, section 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from contracts.errors import InvalidInput
from contracts.records import Answer, Category, Finding, Lesson, Revision, RevisionRequest
from controller.experience import about, ahead, evidence
from controller.gate import weight
from controller.prompt_rules import says
from prompts.lexicon import Lexicon

MOST_AHEAD = 2
"""Constraints per revision against what was not found yet."""
NOTHING_FOUND = "no findings to answer; the prompt stays, the next seed is a new draw"
NOTHING_NEW = (
    "every fitting constraint is in the prompt already; the prompt stays, the next seed is a new draw"
)
NO_ROOM = "no room for another constraint; the prompt stays, the next seed is a new draw"


@dataclass(frozen=True)
class WordLimit:
    """`fits` for models whose own limit is not at hand: at most so many words, separated by space."""

    max_words: int

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise InvalidInput(f"a limit of {self.max_words} words cannot be used: choose 1 or more")

    def __call__(self, prompt: str) -> bool:
        return len(prompt.split()) <= self.max_words


@dataclass(frozen=True)
class _Addition:
    phrase: str
    category: Category
    why: str = field(default="", compare=False)


class RuleBasedModifier:
    """Adds at most one constraint per finding, the worst finding first, as long as the prompt fits."""

    name = "rules"

    def __init__(self, lexicon: Lexicon, fits: Callable[[str], bool] | None = None) -> None:
        """`fits` says whether a text encoder reads a whole prompt; by default 50 words, as in LEGION's
        scripts."""
        self.lexicon = lexicon
        self.fits = WordLimit(50) if fits is None else fits

    def revise(self, requests: Sequence[RevisionRequest]) -> list[Revision]:
        """One revision per request; each looks at its own request only. Raises ModelError for a NaN
        confidence."""
        return [self._revise(request) for request in requests]

    def describe(self) -> Mapping[str, object]:
        """Name, lexicon and its digest, and the word limit; a limit of the generator's is part of the
        generator."""
        limit = {"max_words": self.fits.max_words} if isinstance(self.fits, WordLimit) else {}
        return {
            "name": self.name,
            "lexicon": self.lexicon.name,
            "lexicon_digest": self.lexicon.digest,
            **limit,
        }

    def _revise(self, request: RevisionRequest) -> Revision:
        if not request.findings:
            return Revision(request.current_prompt, reason=NOTHING_FOUND)
        kept = [
            phrase
            for phrase in self.lexicon.phrases
            if says(request.current_prompt, phrase) and not says(request.user_prompt, phrase)
        ]
        added: list[_Addition] = []
        answers: list[Answer] = []
        refused = False
        for finding in sorted(request.findings, key=weight, reverse=True):
            answer, full = self._answer(finding, request, kept, added)
            refused |= full
            if answer is not None:
                answers.append(Answer(answer.phrase, finding.category, finding.phrase))
                if answer not in added:
                    added.append(answer)
        addressed = dict.fromkeys(answer.phrase for answer in answers)
        for addition in self._ahead(request, kept, added):
            answers.append(Answer(addition.phrase, addition.category))
            added.append(addition)
        if not added:
            return Revision(request.current_prompt, reason=NO_ROOM if refused else NOTHING_NEW)
        prompt = self._compose(request.user_prompt, kept, added)
        reason = "added " + ", ".join(f'"{a.phrase}" ({a.why})' for a in added)
        return Revision(prompt, tuple(addressed), reason, answers=tuple(answers))

    def _answer(
        self, finding: Finding, request: RevisionRequest, kept: list[str], added: list[_Addition]
    ) -> tuple[_Addition | None, bool]:
        """The constraint that answers a finding, new or added a moment ago, and whether one was left out for
        room."""
        full = False
        for addition in self._candidates(finding, request.lessons):
            if addition in added:
                return addition, full
            if addition.phrase in kept or says(request.user_prompt, addition.phrase):
                continue
            if self.fits(self._compose(request.user_prompt, kept, [*added, addition])):
                return addition, full
            full = True
        return None, full

    def _candidates(self, finding: Finding, lessons: Sequence[Lesson]) -> list[_Addition]:
        """What fits the finding: first what is proven to help, then as the lexicon has it, and last what is
        proven to make it worse."""
        text = f"{finding.phrase} {finding.explanation}"
        fitting = self.lexicon.candidates(finding.category, text)
        known = {lesson.words: lesson for lesson in reversed(about(finding, lessons))}
        order = sorted(fitting, key=lambda phrase: _merit(known.get(phrase)), reverse=True)
        return [_addition(phrase, finding.category, known.get(phrase)) for phrase in order]

    def _ahead(
        self, request: RevisionRequest, kept: Sequence[str], added: Sequence[_Addition]
    ) -> list[_Addition]:
        """Constraints of the lexicon that are proven to keep away what was not found yet, as far as there is
        room: the next picture is another draw, and may have what this one had not."""
        if not added:
            return []
        chosen: list[_Addition] = []
        for lesson in ahead(request.findings, request.lessons):
            addition = _addition(lesson.words, lesson.symptom.category, lesson)
            said = lesson.words in kept or says(request.user_prompt, lesson.words)
            if said or lesson.words not in self.lexicon.phrases or len(chosen) == MOST_AHEAD:
                continue
            if self.fits(self._compose(request.user_prompt, kept, [*added, *chosen, addition])):
                chosen.append(addition)
        return chosen

    def _compose(self, user_prompt: str, kept: Sequence[str], added: Sequence[_Addition]) -> str:
        chosen = {*kept, *(a.phrase for a in added)}
        # The lexicon's order, not the order of discovery: models learned the phrases in it.
        constraints = ", ".join(phrase for phrase in self.lexicon.phrases if phrase in chosen)
        return f"{user_prompt}{' ' if user_prompt.endswith(tuple('.,;:!?')) else ', '}{constraints}"


def _addition(phrase: str, category: Category, lesson: Lesson | None) -> _Addition:
    why = f"{category}: {evidence(lesson)}" if lesson is not None and lesson.helps else category
    return _Addition(phrase, category, why)


def _merit(lesson: Lesson | None) -> float:
    """Above 0 if it is proven to help, below if it is proven not to, 0 if nothing is known or proven."""
    if lesson is None or not (lesson.helps or lesson.fails):
        return 0.0
    return lesson.uplift.low if lesson.helps else lesson.uplift.high

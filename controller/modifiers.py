"""From findings to a prompt that says what should be seen, by rule.

The person's prompt always comes first, word for word; constraints from a lexicon follow it. What earlier
rounds added stays, so the prompt gathers the answers to everything found so far (the memory of the paper's
regeneration loop, arXiv 2503.15264, section 5).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from contracts.errors import InvalidInput
from contracts.records import Finding, Revision, RevisionRequest
from controller.gate import weight
from prompts.lexicon import Lexicon

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
    category: str


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
        addressed: list[str] = []
        refused = False
        for finding in sorted(request.findings, key=weight, reverse=True):
            answer, full = self._answer(finding, request.user_prompt, kept, added)
            refused |= full
            if answer is not None:
                addressed.append(finding.phrase)
                if answer not in added:
                    added.append(answer)
        if not added:
            return Revision(request.current_prompt, reason=NO_ROOM if refused else NOTHING_NEW)
        prompt = self._compose(request.user_prompt, kept, added)
        reason = "added " + ", ".join(f'"{a.phrase}" ({a.category})' for a in added)
        return Revision(prompt, tuple(dict.fromkeys(addressed)), reason)

    def _answer(
        self, finding: Finding, user_prompt: str, kept: list[str], added: list[_Addition]
    ) -> tuple[_Addition | None, bool]:
        """The constraint that answers a finding, new or added a moment ago, and whether one was left out for
        room."""
        full = False
        text = f"{finding.phrase} {finding.explanation}"
        for phrase in self.lexicon.candidates(finding.category, text):
            addition = _Addition(phrase, finding.category)
            if addition in added:
                return addition, full
            if phrase in kept or says(user_prompt, phrase):
                continue
            if self.fits(self._compose(user_prompt, kept, [*added, addition])):
                return addition, full
            full = True
        return None, full

    def _compose(self, user_prompt: str, kept: list[str], added: list[_Addition]) -> str:
        chosen = {*kept, *(a.phrase for a in added)}
        # The lexicon's order, not the order of discovery: models learned the phrases in it.
        constraints = ", ".join(phrase for phrase in self.lexicon.phrases if phrase in chosen)
        return f"{user_prompt}{' ' if user_prompt.endswith(tuple('.,;:!?')) else ', '}{constraints}"


def says(prompt: str, phrase: str) -> bool:
    """Does the prompt contain the phrase as whole words, in any case?"""
    return re.search(rf"(?<!\w){re.escape(phrase.lower())}(?!\w)", prompt.lower()) is not None

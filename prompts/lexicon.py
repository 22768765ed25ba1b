"""From what is wrong to what should be seen: positive phrases per artifact category.

Diffusion models paint what a prompt names, so a phrase never names the flaw. A constraint with keywords is
meant for findings whose words contain one of them; a constraint without keywords is meant for its whole
category.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from dataclasses import dataclass
from typing import Any

from contracts.errors import InvalidInput
from contracts.records import CATEGORIES, Category
from prompts.resources import names_under, read

_FOLDER, _SUFFIX = "constraints", ".toml"
_FIELDS = {"category", "phrase", "keywords"}


@dataclass(frozen=True)
class Constraint:
    """One phrase a prompt may carry."""

    phrase: str
    category: Category
    keywords: tuple[str, ...] = ()
    """Lower-case words or word groups; empty means the whole category."""

    def matches(self, text: str) -> bool:
        """Does the text contain a keyword as whole words, in singular or plural? False without keywords."""
        return any(_contains(text, keyword) for keyword in self.keywords)


@dataclass(frozen=True)
class Lexicon:
    """All phrases of one vocabulary, in the order in which a prompt carries them."""

    name: str
    digest: str
    constraints: tuple[Constraint, ...]

    @property
    def phrases(self) -> tuple[str, ...]:
        """Every phrase once, in order."""
        return tuple(constraint.phrase for constraint in self.constraints)

    def candidates(self, category: Category, text: str) -> list[str]:
        """Phrases that answer a finding, the most fitting first: those whose keywords occur in its text, then
        those for the whole category."""
        own = [c for c in self.constraints if c.category == category]
        return [c.phrase for c in own if c.matches(text)] + [c.phrase for c in own if not c.keywords]


def lexicon_names() -> list[str]:
    """Names of the vocabularies."""
    return names_under(_FOLDER, _SUFFIX)


def load_lexicon(name: str) -> Lexicon:
    """The vocabulary `name`. Raises InvalidInput if there is none of that name or its file is not well
    formed."""
    return parse_lexicon(read(_FOLDER, name, _SUFFIX, "lexicon"), name)


def parse_lexicon(text: str, name: str) -> Lexicon:
    """A vocabulary from TOML: `[[constraint]]` tables with `category`, `phrase` and, optionally, `keywords`.

    Raises InvalidInput for any other key, an unknown category, an empty or repeated phrase, and for a
    category that no phrase covers as a whole.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"the lexicon {name!r} is not TOML: {error}") from error
    if set(data) != {"constraint"} or not isinstance(data["constraint"], list):
        raise InvalidInput(f"the lexicon {name!r} must hold [[constraint]] tables and nothing else")
    constraints = tuple(_constraint(entry, name) for entry in data["constraint"])
    phrases = [c.phrase for c in constraints]
    if repeated := sorted({phrase for phrase in phrases if phrases.count(phrase) > 1}):
        raise InvalidInput(f"the lexicon {name!r} repeats {repeated[0]!r}: keep one of them")
    covered = {c.category for c in constraints if not c.keywords}
    if bare := [category for category in CATEGORIES if category not in covered]:
        raise InvalidInput(f"the lexicon {name!r} has no phrase without keywords for {bare[0]}: add one")
    return Lexicon(name, hashlib.sha256(text.encode()).hexdigest()[:12], constraints)


def _constraint(entry: dict[str, Any], name: str) -> Constraint:
    if unknown := sorted(set(entry) - _FIELDS):
        raise InvalidInput(
            f"the lexicon {name!r} has an unknown key {unknown[0]!r}: use {', '.join(sorted(_FIELDS))}"
        )
    category, phrase, keywords = entry.get("category"), entry.get("phrase"), entry.get("keywords", [])
    if category not in CATEGORIES:
        raise InvalidInput(f"the lexicon {name!r} has category {category!r}: use {', '.join(CATEGORIES)}")
    if not isinstance(phrase, str) or not phrase.strip():
        raise InvalidInput(f"the lexicon {name!r} has an entry without a phrase: give it one")
    if not isinstance(keywords, list) or not all(isinstance(k, str) and k.strip() for k in keywords):
        raise InvalidInput(f"the keywords of {phrase!r} in the lexicon {name!r} must be a list of words")
    return Constraint(phrase.strip(), category, tuple(k.strip().lower() for k in keywords))


def _contains(text: str, keyword: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(keyword)}(?:e?s)?(?!\w)", text.lower()) is not None

"""Word lists by which prompts are judged: what separates phrases, names flaws, stands for another word."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from prompts.resources import read

_FOLDER, _SUFFIX = "wordlists", ".toml"


@dataclass(frozen=True)
class Words:
    """The lists of one language; all words in lower case."""

    function: frozenset[str]
    """Articles, prepositions and the like: they separate phrases."""
    relations: frozenset[str]
    """Words that say where things are, and negations."""
    numbers: frozenset[str]
    copulas: frozenset[str]
    """Words that say what something is or looks like."""
    flaws: re.Pattern[str]
    """Matches a whole word that names a flaw or denies something."""
    talk: re.Pattern[str]
    """Matches a whole word about the task instead of the picture."""
    contrast: re.Pattern[str]
    """Matches, in an explanation, where the flaw ends and the right state begins."""
    canonical: Mapping[str, str]
    """Words that may stand for each other, all mapped to the same one."""

    def names_flaw(self, text: str) -> bool:
        """Does a word of the text name a flaw or deny something?"""
        return any(self.flaws.fullmatch(word) for word in re.findall(r"\w+", text.lower()))

    def same(self, word: str) -> str:
        """The one word for a group of synonyms; the word itself if it has none."""
        return self.canonical.get(word, word)


@lru_cache(maxsize=4)
def load_words(language: str = "english") -> Words:
    """The lists of a language. Raises InvalidInput for an unknown one."""
    data = tomllib.loads(read(_FOLDER, language, _SUFFIX, "language"))
    canonical: dict[str, str] = {}
    for group in data["synonyms"]:
        members = group.split()
        canonical |= {member: canonical.get(members[0], members[0]) for member in members}
    return Words(
        function=frozenset(data["function"].split()),
        relations=frozenset(data["relations"].split()),
        numbers=frozenset(data["numbers"].split()),
        copulas=frozenset(data["copulas"].split()),
        flaws=_pattern(data["flaws"].split()),
        talk=_pattern(data["talk"].split()),
        contrast=re.compile("|".join(rf"\b{re.escape(mark)}\b" for mark in data["contrast"])),
        canonical=canonical,
    )


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """One of the words, where a `*` at the end is any ending."""
    return re.compile("|".join(re.escape(word).replace(r"\*", r"\w*") for word in words))

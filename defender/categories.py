"""Which of SynthScars' three categories an explanation is about, from a lexicon of telling words.

SynthScars names the categories of its images but not of its single findings, and an answer does not either,
so the category is read off the words (categories.json; a final * stands for any ending).
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from importlib import resources

from contracts.records import CATEGORIES, Category

_FALLBACK: Category = "structure"
"""Where no word tells: 89 % of SynthScars' findings are of this category."""


def categorize(phrase: str, explanation: str) -> Category:
    """The category with most telling words; a word of the explanation counts twice one of the phrase.

    Between equals the one whose word comes first in the explanation wins.
    """
    counts = {}
    for category, pattern in _patterns().items():
        found = [match.start() for match in pattern.finditer(explanation.lower())]
        hits = 2 * len(found) + len(pattern.findall(phrase.lower()))
        counts[category] = (hits, -found[0] if found else -len(explanation) - 1)
    best = max(CATEGORIES, key=lambda category: counts[category])
    return best if counts[best][0] else _FALLBACK


@lru_cache(maxsize=1)
def _patterns() -> dict[Category, re.Pattern[str]]:
    lexicon = json.loads(resources.files("defender").joinpath("categories.json").read_text(encoding="utf-8"))
    return {category: _pattern(lexicon[category]) for category in CATEGORIES}


def _pattern(words: list[str]) -> re.Pattern[str]:
    forms = [re.escape(word).replace(r"\*", r"\w*") for word in sorted(words, key=len, reverse=True)]
    return re.compile(rf"\b(?:{'|'.join(forms)})\b")

"""What a prompt is about, and whether another prompt is still about it.

Between two function words or marks lies a phrase ("red cone", "wooden table"). A prompt keeps the subject if
every phrase of the user's is in it: the same words in the same order, or synonyms from our own list, with at
most three further words among them and nothing that begins another phrase. So adjectives stay with their
nouns. The words that say where things are stay too. Numbers and forms count: two cats are not a cat.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from prompts.words import Words

MOST_BETWEEN = 3
"""Words that may come between two words of a phrase: "red cone" may become "red matte paper cone"."""

_BOUNDARY = ""
"""Stands for a mark in a list of words."""
_TOKEN = re.compile(r"\w+(?:['’]\w+)?|[^\w\s'’\-_]+")


def words_of(text: str) -> list[str]:
    """Its words in lower case, without possessive endings; hyphens separate like spaces."""
    return [token for token in _tokens(text) if token]


def phrases(prompt: str, words: Words) -> list[tuple[str, ...]]:
    """What must stay: the content words between function words and marks, in order."""
    found: list[tuple[str, ...]] = []
    now: list[str] = []
    for token in [*_tokens(prompt), _BOUNDARY]:
        if token and token not in words.function and token not in words.relations:
            now.append(token)
        elif now:
            found.append(tuple(now))
            now = []
    return found


def lost(user_prompt: str, prompt: str, words: Words) -> list[str]:
    """What of the user's prompt the other prompt no longer says, as a person would quote it. Empty if the
    subject is kept. A prompt without words (emoji, say) must be there as it is."""
    wanted = phrases(user_prompt, words)
    if not wanted:
        return [] if user_prompt.strip() in prompt else [user_prompt.strip()]
    said = [words.same(token) for token in _tokens(prompt)]
    gone = [" ".join(phrase) for phrase in wanted if not _says(said, [words.same(w) for w in phrase], words)]
    relations = dict.fromkeys(token for token in words_of(user_prompt) if token in words.relations)
    return gone + [word for word in relations if words.same(word) not in said]


def _says(said: Sequence[str], phrase: Sequence[str], words: Words) -> bool:
    return any(_continues(said, start + 1, phrase[1:], words) for start in _positions(said, phrase[0]))


def _continues(said: Sequence[str], start: int, rest: Sequence[str], words: Words) -> bool:
    """Do the remaining words follow from `start`, close enough and inside the same phrase?"""
    if not rest:
        return True
    for position in range(start, min(start + MOST_BETWEEN + 1, len(said))):
        word = said[position]
        if word == rest[0]:
            return _continues(said, position + 1, rest[1:], words)
        if word == _BOUNDARY or word in words.function or word in words.relations:
            return False
    return False


def _positions(said: Sequence[str], word: str) -> Iterator[int]:
    return (position for position, other in enumerate(said) if other == word)


def _tokens(text: str) -> list[str]:
    """Words, and the boundary for every run of marks."""
    found = []
    for token in _TOKEN.findall(text.casefold()):
        word = re.sub(r"['’]s?$", "", token)
        found.append(word if word[:1].isalnum() or word[:1] == "_" else _BOUNDARY)
    return found

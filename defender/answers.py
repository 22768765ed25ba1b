"""Between findings and the sentence the model speaks, such that phrase, mask and explanation stay together.

A flawed picture is answered

    Upon examining the image, I have found: <p> PHRASE </p> [SEG] : EXPLANATION. <p> ...

and a clean one "I have found no artifacts." On the way back every [SEG] gives exactly one claim, in order,
whatever else the model left out: the k-th claim belongs to the k-th mask.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from contracts.records import Finding

OPENING = "Upon examining the image, I have found:"
CLEAN_ANSWER = "I have found no artifacts."
UNNAMED = "this region"
"""Stands in where the model marked a region without naming it."""

_SEG = "[SEG]"
_PHRASE = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_SPECIALS = re.compile(r"</?s>|</?p>|<im_start>|<im_end>|<bbox>|<point>|<unk>|\[SEG\]")
_WORD = re.compile(r"\w+")
_CONNECTORS = {"and", "or", "as", "well", "also", "with", "the"}


class Claim(NamedTuple):
    """What the answer says about one [SEG]."""

    phrase: str
    explanation: str


def compose(findings: Sequence[Finding]) -> str:
    """The answer that training teaches for these findings, in their order."""
    if not findings:
        return CLEAN_ANSWER
    parts = [f"{mark(f.phrase)} : {_sentence(f.explanation)}" for f in findings]
    return " ".join([OPENING, *parts])


def mark(phrase: str) -> str:
    """A phrase in its tags, followed by the token that asks for its mask."""
    return f"<p> {phrase} </p> {_SEG}"


def without_tags(text: str) -> str:
    """Text without anything that reads like a special token."""
    return _SPECIALS.sub("", text)


def parse(answer: str) -> list[Claim]:
    """One claim per [SEG], in order.

    A [SEG] without a phrase of its own is called UNNAMED; a phrase without a [SEG] (an answer cut off) has no
    mask and is dropped. Where explanations follow in a second part ("PHRASE : explanation", as in
    SynthScars), the n-th mask of a repeated phrase takes its n-th explanation.
    """
    return claims_between(answer.split(_SEG))


def claims_between(pieces: Sequence[str]) -> list[Claim]:
    """`parse` for an answer already split at its [SEG] tokens: always one claim less than pieces.

    Splitting by token is the sure way: a model may also spell "[SEG]" from ordinary pieces, with no mask.
    """
    phrases = [_last_phrase(piece) for piece in pieces[:-1]]
    explanations = [_explanation(piece, last=i == len(pieces) - 2) for i, piece in enumerate(pieces[1:])]
    later = _plain(pieces[-1])
    seen: dict[str, int] = {}
    claims = []
    for phrase, explanation in zip(phrases, explanations, strict=True):
        nth = seen[phrase] = seen.get(phrase, -1) + 1
        elaborated = _elaborations(phrase, later, phrases)
        if elaborated and (not _says_something(explanation) or later.endswith(explanation)):
            explanation = elaborated[min(nth, len(elaborated) - 1)]
        claims.append(Claim(phrase, explanation if _says_something(explanation) else ""))
    return claims


def caption(answer: str) -> str:
    """The answer as a person reads it: no tags, no special tokens, single spaces."""
    return _plain(answer)


def _last_phrase(piece: str) -> str:
    found = _PHRASE.findall(piece)
    return _plain(found[-1]) or UNNAMED if found else UNNAMED


def _explanation(piece: str, last: bool) -> str:
    """What follows a [SEG], up to the next phrase (at the end of an answer: a phrase that was cut off)."""
    end = piece.rfind("<p>") if not last else piece.find("<p>")
    return _plain(piece if end < 0 else piece[:end]).lstrip(" :;,.-").strip()


def _elaborations(phrase: str, text: str, phrases: Sequence[str]) -> list[str]:
    if phrase == UNNAMED:
        return []
    stop = "|".join(re.escape(p) for p in sorted(set(phrases), key=len, reverse=True))
    pattern = rf"(?<!\w){re.escape(phrase)}\s*:\s*(.*?)(?=(?:(?<!\w)(?:{stop})\s*:)|$)"
    return [found.strip() for found in re.findall(pattern, text, re.DOTALL)]


def _says_something(text: str) -> bool:
    return any(word.lower() not in _CONNECTORS for word in _WORD.findall(text))


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", _SPECIALS.sub(" ", text)).strip()


def _sentence(explanation: str) -> str:
    text = _plain(explanation)
    return text if text.endswith((".", "!", "?")) else f"{text}."

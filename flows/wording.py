"""Sentences and word differences that the console, the report and the gallery share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from contracts.records import Diagnosis, Round, Run


class Piece(NamedTuple):
    """A stretch of words that stayed, came or went."""

    kind: Literal["same", "added", "removed"]
    text: str


def word_difference(before: str, after: str) -> list[Piece]:
    """How one prompt becomes the next, word by word; commas count as words, spacing is kept."""
    old, new = _words(before), _words(after)
    pieces: list[Piece] = []
    for tag, a0, a1, b0, b1 in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            pieces.append(Piece("same", "".join(old[a0:a1])))
            continue
        if a1 > a0:
            pieces.append(Piece("removed", "".join(old[a0:a1])))
        if b1 > b0:
            pieces.append(Piece("added", "".join(new[b0:b1])))
    return pieces


def count(number: int, noun: str) -> str:
    """`1 finding`, `2 findings`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def verdict_words(run: Run, item: Round) -> str:
    """`best`, `accepted`, `rolled back` or `unfinished`."""
    if item.verdict is None:
        return "unfinished"
    if not item.verdict.accepted:
        return "rolled back"
    return "best" if run.best is not None and run.best.index == item.index else "accepted"


def reason_words(item: Round) -> str:
    """Why the gate decided so, without repeating the verdict itself."""
    return (
        "this round was not finished"
        if item.verdict is None
        else item.verdict.reason.removeprefix("rolled back: ")
    )


def origin_words(diagnosis: Diagnosis) -> str:
    """What the defender says about real or generated."""
    probability = diagnosis.synthetic_probability
    if probability is None:
        return "no word on real or generated"
    word, share = ("generated", probability) if probability >= 0.5 else ("real", 1 - probability)
    return f"looks {word} ({share:.0%} sure)"


def outcome(run: Run) -> str:
    """One sentence that says what became of the run."""
    shown = [item for item in run.rounds if item.image is not None and item.diagnosis is not None]
    if run.best is None or run.best.diagnosis is None or not shown or shown[0].diagnosis is None:
        return "No round was finished yet."
    before, after = len(shown[0].diagnosis.findings), len(run.best.diagnosis.findings)
    if run.best.index == shown[0].index:
        return "The first picture shows no artifacts." if before == 0 else _kept_first(shown, before)
    gained = "no artifacts left" if after == 0 else f"{count(after, 'finding')} left"
    return f"From {count(before, 'finding')} in round {shown[0].index} to {gained} in round {run.best.index}."


def step_words(step: str, round_index: int, pictures: int) -> str:
    """`paint · round 2 · 16 pictures`."""
    return f"{step} · round {round_index} · {count(pictures, 'picture')}"


def listed(words: Sequence[str]) -> str:
    """`'a', 'b' and 'c'`."""
    quoted = [f"'{word}'" for word in words]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _words(text: str) -> list[str]:
    return re.findall(r"\s*(?:[^\s,]+|,)|\s+$", text)


def _kept_first(shown: Sequence[Round], findings: int) -> str:
    if len(shown) == 1:
        return f"One round, with {count(findings, 'finding')}."
    return f"No later round was better than the first, which has {count(findings, 'finding')}."

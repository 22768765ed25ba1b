"""Sentences and word differences that the console, the report and the gallery share."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from contracts.records import Diagnosis, Mask, Repair, Round, Run
from controller.gate import NO_ARTIFACTS
from controller.inpainting import scene_of
from controller.reviewing import WORDS


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


def review_words(item: Round) -> str:
    """Who said what about the round, and when; empty if nobody was asked."""
    review = item.review
    if review is None:
        return ""
    said = WORDS[review.decision].format(who=review.who)
    limits = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in review.thresholds.items())
    when = f"{review.when[:16].replace('T', ' ')} UTC"
    return " · ".join(part for part in (said, limits, review.prompt, review.note, when) if part)


def revision_words(item: Round) -> str:
    """Why the next prompt is as it is, and what a language model took to write it; empty if none follows."""
    if item.revision is None:
        return ""
    usage = item.revision.usage
    if not usage.calls:
        return item.revision.reason
    money = f", ${usage.usd:.4f}" if usage.usd else ""
    return f"{item.revision.reason} · {count(usage.calls, 'call')}, {usage.tokens:,} tokens{money}"


def title_of(run: Run) -> str:
    """What a run is about: the person's words, or the defender's where a picture came without any."""
    return scene_of(run) or "a picture not examined yet"


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


def advice(run: Run) -> str | None:
    """What to try where the first picture left nothing to do for further rounds; None for any other run."""
    best, most = run.best, run.settings.get("rounds")
    if len(run.rounds) > 1 or most == 1 or best is None or best.diagnosis is None or best.diagnosis.findings:
        return None
    return f"Another seed, such as {run.seed + 1}, paints another picture, which may leave more to do."


def step_words(step: str, round_index: int, number: int, noun: str = "picture") -> str:
    """`paint · round 2 · 16 pictures`."""
    return f"{step} · round {round_index} · {count(number, noun)}"


def repair_words(item: Repair) -> str:
    """`repaired`, `rolled back` or `unfinished`."""
    return "unfinished" if item.accepted is None else "repaired" if item.accepted else "rolled back"


def repair_reason(item: Repair) -> str:
    """Why the gate decided so, without repeating the verdict itself."""
    if item.accepted is None:
        return "this region was not finished"
    return item.reason.removeprefix("rolled back: ").removeprefix("repaired: ")


def repair_outcome(run: Run) -> str:
    """One sentence that says what became of a picture."""
    decided = [x for r in run.rounds for x in r.repairs or () if x.accepted is not None]
    last = run.rounds[-1].verdict if run.rounds else None
    if last is None:
        return "No round was finished yet."
    stop = f" ({last.stop})" if last.stop else ""
    if not decided:
        return f"Left as it is{stop}."
    if last.stop == NO_ARTIFACTS:
        stop = " (no artifacts left)"
    repaired, undone = sum(bool(x.accepted) for x in decided), sum(not x.accepted for x in decided)
    words = count(repaired, "repair") if repaired else "No repair stayed"
    return f"{words}{f', {undone} rolled back' if undone else ''}{stop}."


def area_words(mask: Mask | None, shape: tuple[int, ...]) -> str:
    """How much of a picture may change: `312 of 4096 pixels (7.6 %)`."""
    inside = 0 if mask is None else int(mask.sum())
    total = shape[0] * shape[1]
    return f"{inside:,} of {total:,} pixels ({100 * inside / total:.1f} %)"


def clipped(text: str, most: int) -> str:
    """The text on one line, cut after `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


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

"""Single comparisons of what was found with what is true: masks, names, texts. Shares from 0 to 1."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from contracts.records import Finding, Mask

_PREPOSITIONS = frozenset(
    "about above across against along among and around at behind below beneath beside between by during for "
    "from in inside into near of off on onto or out over past through to toward towards under underneath up "
    "upon with within without".split()
)


def foreground_f1(predicted: Mask, true: Mask) -> float:
    """2 TP / (2 TP + FP + FN); 1 where both are empty."""
    total = int(predicted.sum()) + int(true.sum())
    return 2 * int((predicted & true).sum()) / total if total else 1.0


def iou(predicted: Mask, true: Mask) -> float:
    """Intersection over union; 1 where both are empty."""
    union = int((predicted | true).sum())
    return int((predicted & true).sum()) / union if union else 1.0


def mean_iou(predicted: Mask, true: Mask) -> float:
    """Mean of the foreground's and the background's IoU."""
    return (iou(predicted, true) + iou(~predicted, ~true)) / 2


def match(findings: Sequence[Finding], true: Sequence[Finding]) -> list[tuple[Finding, Finding]]:
    """Pairs (true, found), best IoU first, each used once, overlap above zero."""
    ranked = sorted(
        ((iou(f.mask, t.mask), i, j) for i, t in enumerate(true) for j, f in enumerate(findings)),
        reverse=True,
    )
    pairs, used_true, used_found = [], set(), set()
    for overlap, i, j in ranked:
        if overlap > 0 and i not in used_true and j not in used_found:
            pairs.append((true[i], findings[j]))
            used_true.add(i)
            used_found.add(j)
    return pairs


def nouns(phrase: str) -> tuple[str, ...]:
    """The noun that heads each part of a phrase: "the shadow of the red cone" -> ("shadow", "cone").

    A part ends at a preposition or a conjunction, and its last word is taken for its noun: a rule for English
    noun phrases, not a parser.
    """
    heads, last = [], ""
    for word in re.findall(r"[^\W_]+(?:['-][^\W_]+)*", phrase.casefold()):
        if word in _PREPOSITIONS:
            heads.append(last)
            last = ""
        else:
            last = word
    return tuple(head for head in (*heads, last) if head)


def rouge_l(predicted: str, true: str) -> float:
    """ROUGE-L's F-measure (Lin 2004) as the rouge-score package computes it, without stemming."""
    if not predicted.strip() or not true.strip():
        return float(predicted.strip() == true.strip())
    score: float = _rouge().score(true, predicted)["rougeL"].fmeasure
    return score


@lru_cache(maxsize=1)
def _rouge() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=False)

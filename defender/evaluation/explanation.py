"""Explanation: whether the words are right, as ROUGE-L and as the cosine of sentence embeddings (CSS).

The paper (arXiv 2503.15264, section 5) gives both times 100 and says neither which texts it compares nor
which variant of ROUGE-L. Here: F-measure, no stemming, on three levels.

* findings: "PHRASE: EXPLANATION." of every artifact in order, against the same of the diagnosis. No template
  that both sides share flatters it.
* whole answer: everything the defender said against the data set's own caption, openings and all. It is
  what published figures most likely are of, so those stand beside it.
* matched: phrase and explanation of each artifact against those of the finding at its place.

A picture whose artifacts were all missed counts as 0 in the first two. CSS follows in `embedding.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from contracts.protocols import Defender
from contracts.records import Diagnosis, Finding
from defender.answers import UNNAMED, caption, compose
from defender.evaluation.embedding import SentenceEmbedder
from defender.evaluation.figures import Figure, Row, by_group, mean_of, mean_of_lists
from defender.evaluation.metrics import match, rouge_l
from defender.evaluation.pictures import Picture, diagnosed


def wanted(picture: Picture) -> bool:
    """Pictures with artifacts that are explained."""
    return any(finding.explanation for finding in picture.sample.findings)


def look(defender: Defender, pictures: Sequence[Picture]) -> Iterator[Row]:
    """Diagnose and compare the words."""
    return diagnosed(defender, pictures, measure)


def measure(picture: Picture, diagnosis: Diagnosis) -> Row:
    """One picture's row: both texts on each level, and their ROUGE-L."""
    true = picture.sample.findings
    said = [(text_of(wanted), text_of(found)) for wanted, found in match(diagnosis.findings, true)]
    texts = {
        "findings": (text(true), text(diagnosis.findings)),
        "answer": (picture.sample.caption or caption(compose(true)), caption(diagnosis.answer)),
    }
    return {
        "texts": {level: list(pair) for level, pair in texts.items()},
        "matched": [list(pair) for pair in said],
        "ROUGE-L": {level: rouge_l(found, wanted) for level, (wanted, found) in texts.items()},
        "ROUGE-L matched": [rouge_l(found, wanted) for wanted, found in said],
    }


def figures(rows: Sequence[Row], embedder: SentenceEmbedder | None = None) -> list[Figure]:
    """ROUGE-L, and CSS where there is an embedder, by group."""
    if embedder is not None:
        rows = [_with_similarity(row, embedder) for row in rows]
    return by_group(rows, _of_group)


def _of_group(group: str, rows: Sequence[Row]) -> list[Figure]:
    found = []
    for metric in ("ROUGE-L", "CSS"):
        having = [row for row in rows if metric in row]
        found += mean_of(group, metric, [row[metric]["findings"] for row in having])
        found += mean_of(group, f"{metric}, whole answer", [row[metric]["answer"] for row in having])
        found += mean_of_lists(
            group, f"{metric}, matched artifacts", [row[f"{metric} matched"] for row in having]
        )
    return found


def text(findings: Sequence[Finding]) -> str:
    """All findings as one text, without any opening."""
    return " ".join(map(text_of, findings))


def text_of(finding: Finding) -> str:
    """One finding as a sentence; what has no name of its own is only explained."""
    explanation = finding.explanation.strip()
    if explanation and not explanation.endswith((".", "!", "?")):
        explanation += "."
    if finding.phrase == UNNAMED:
        return explanation
    return f"{finding.phrase}: {explanation}" if explanation else f"{finding.phrase}."


def _with_similarity(row: Row, embedder: SentenceEmbedder) -> Row:
    texts, matched = row["texts"], row["matched"]
    pairs = [*texts.values(), *matched]
    similarity = embedder.similarity([true for true, _ in pairs], [found for _, found in pairs])
    return {
        **row,
        "CSS": dict(zip(texts, similarity[: len(texts)].tolist(), strict=True)),
        "CSS matched": np.asarray(similarity[len(texts) :]).tolist(),
    }

"""Is a round better than the best so far, and does the run go on? Pure functions; every doubt is a rejection.

The first round is accepted as the one to beat. A later round is accepted only if what the defender found is
gone or smaller and the selection score is not worse by more than the tolerance. A score that is missing, not
a number, or of another scorer is an error, never an acceptance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.errors import InvalidInput, ModelError
from contracts.records import Diagnosis, Finding, Round, Score, Verdict
from contracts.scores import check_comparable

NO_ARTIFACTS = "no artifacts found"
ROUND_LIMIT = "round limit reached"
PLATEAU = "plateau: no better picture in several rounds"


@dataclass(frozen=True)
class GateSettings:
    """What the gate goes by. Raises InvalidInput for numbers that make no loop."""

    selection_score: str
    """Name of the score that selects."""
    rounds: int = 3
    """Rounds at most, 1 or more."""
    patience: int = 2
    """Rejected rounds in a row after which a run ends, 1 or more."""
    score_tolerance: float = 0.0
    """How far the selection score may fall below the best round's, 0 or more, in the score's own units."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise InvalidInput(f"rounds {self.rounds} cannot be used: choose 1 or more")
        if self.patience < 1:
            raise InvalidInput(f"patience {self.patience} cannot be used: choose 1 or more")
        if not (math.isfinite(self.score_tolerance) and self.score_tolerance >= 0):
            raise InvalidInput(f"score tolerance {self.score_tolerance} cannot be used: choose 0 or more")


def confidence(finding: Finding) -> float:
    """How sure the defender is of one finding, 0..1. Raises ModelError if that is no number, or negative."""
    if not (math.isfinite(finding.confidence) and finding.confidence >= 0):
        raise ModelError(
            f"the finding {finding.phrase!r} has confidence {finding.confidence}: it must be 0..1"
        )
    return finding.confidence


def weight(finding: Finding) -> float:
    """What there is to gain by one finding: confidence times the share of the picture that it covers, 0..1.
    Raises ModelError."""
    return confidence(finding) * finding.area


def severity(diagnosis: Diagnosis) -> float:
    """How bad a picture is: confidence times extent, summed over its findings; 0 if nothing was found.

    The extent is the root of the share of the picture that is covered: by the share itself, a flaw beyond
    doubt would pass for less than a doubt about something four times as large. A sum, not a union: two flaws
    in one place are worse than one. Raises ModelError for an unusable confidence.
    """
    return math.fsum(confidence(finding) * math.sqrt(finding.area) for finding in diagnosis.findings)


def judge(candidate: Round, earlier: Sequence[Round], settings: GateSettings) -> Verdict:
    """The gate's word on a diagnosed and scored round, and whether another follows.

    `earlier` holds the run's rounds before it, oldest first, each with its verdict. Raises ModelError if the
    candidate's or the best round's diagnosis or selection score is missing or unusable.
    """
    best = best_round(earlier)
    accepted, reason = compare(candidate, best, settings)
    return Verdict(accepted, reason, ending(candidate, accepted, earlier, settings))


def best_round(rounds: Sequence[Round]) -> Round | None:
    """The last accepted round: only improvements are accepted, so it is the best. None if there is none."""
    accepted = [r for r in rounds if r.verdict is not None and r.verdict.accepted]
    return accepted[-1] if accepted else None


def compare(candidate: Round, best: Round | None, settings: GateSettings) -> tuple[bool, str]:
    """Whether the candidate takes the place of the best round so far, and why, with numbers.

    Raises ModelError as `judge` does.
    """
    found, score = _diagnosis(candidate), selection_score(candidate, settings.selection_score)
    now = severity(found)
    if best is None:
        return (
            True,
            f"first picture, the one to beat: {_findings(found, now)}, {score.name} {score.value:.4f}",
        )
    before, best_score = severity(_diagnosis(best)), selection_score(best, settings.selection_score)
    check_comparable((best_score, score))
    improved = not found.findings or now < before
    kept_score = score.value >= best_score.value - settings.score_tolerance
    return improved and kept_score, _reason(
        found, now, before, score, best_score, improved, kept_score, settings
    )


def selection_score(candidate: Round, name: str) -> Score:
    """The round's score of that name. Raises ModelError if it is missing, there twice, or not a finite
    number."""
    scores = [score for score in candidate.scores or () if score.name == name]
    if len(scores) != 1:
        raise ModelError(
            f"round {candidate.index} has {len(scores)} scores called {name!r}: a round needs exactly one"
        )
    if not math.isfinite(scores[0].value):
        raise ModelError(f"the score {name!r} of round {candidate.index} is {scores[0].value}: not a number")
    return scores[0]


def ending(candidate: Round, accepted: bool, earlier: Sequence[Round], settings: GateSettings) -> str | None:
    """Why a run ends with this round, or None if another follows."""
    if accepted and not _diagnosis(candidate).findings:
        return NO_ARTIFACTS
    if candidate.index >= settings.rounds:
        return ROUND_LIMIT
    return PLATEAU if _rejections(accepted, earlier) >= settings.patience else None


def _rejections(accepted: bool, earlier: Sequence[Round]) -> int:
    """Rejected rounds in a row, the newest included."""
    words = [r.verdict.accepted for r in earlier if r.verdict is not None] + [accepted]
    return next((n for n, word in enumerate(reversed(words)) if word), len(words))


def _diagnosis(candidate: Round) -> Diagnosis:
    if candidate.diagnosis is None:
        raise ModelError(f"round {candidate.index} has no diagnosis: the gate cannot judge it")
    return candidate.diagnosis


def _reason(
    found: Diagnosis,
    now: float,
    before: float,
    score: Score,
    best_score: Score,
    improved: bool,
    kept_score: bool,
    settings: GateSettings,
) -> str:
    change = f"{_findings(found, now)} after {before:.3f}"
    findings = change if improved else f"findings are not smaller ({change})"
    change = f"{score.name} {score.value:.4f} after {best_score.value:.4f}"
    scores = change if kept_score else f"{change}, a fall of more than {settings.score_tolerance:g}"
    return f"{'better' if improved and kept_score else 'rolled back'}: {findings}; {scores}"


def _findings(diagnosis: Diagnosis, total: float) -> str:
    count = len(diagnosis.findings)
    if not count:
        return "nothing found"
    return f"{count} finding{'' if count == 1 else 's'} of severity {total:.3f}"

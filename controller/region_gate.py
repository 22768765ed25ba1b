"""Does a repaired region stay, and is a region worth another try? Pure functions; every doubt is a rollback.

A repair stays only if, on the picture with that repair, the defender finds nothing or clearly less where the
flaw was and nothing new that is of its making, the selection score is worse neither than without the repair
nor than that of the picture as it came, no seam shows, and every pixel outside the support is what it was. A
measurement that is missing or not a number is an error, never an acceptance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

from contracts.errors import InvalidInput, ModelError
from contracts.records import Diagnosis, Finding, Mask, RegionPlan, Score
from contracts.scores import check_comparable
from controller import masks
from controller.gate import confidence

KNOWN_IOU = 0.1
KNOWN_INSIDE = 0.5


@dataclass(frozen=True)
class RegionGateSettings:
    """What the gate goes by. Raises InvalidInput for numbers that make no gate."""

    selection_score: str
    """Name of the score that selects."""
    score_tolerance: float = 0.0
    """How far the picture's selection score may fall, 0 or more, in the score's own units: by one repair, and
    by all of them together below that of the picture as it came."""
    min_reduction: float = 0.5
    """By what share a finding must have shrunk if it is not gone, above 0 up to 1."""
    max_seam: float = 12.0
    """How much more than before the region's edge may show, 0..255 levels."""
    nearby: float = 0.25
    """How far around the support to look for something new, as a share of its size (the square root of its
    pixels), 0 or more."""
    nearby_slack: float = 0.1
    """How much earlier findings around the support may grow, as a share of the repaired severity, 0 or more:
    masks of one and the same flaw waver."""
    caused: float = 0.5
    """Which share of a finding that was not there before must lie where pixels could change for the repair to
    answer for it, 0..1. What lies mostly on pixels that are what they were is taken to have been there, not
    seen beside a flaw that caught the eye, and is left to a later round, if there is one. What it adds to the
    place of the flaw counts against the repair all the same. 0: it answers for all that is new nearby."""

    def __post_init__(self) -> None:
        for name in ("score_tolerance", "max_seam", "nearby", "nearby_slack"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InvalidInput(f"{name.replace('_', ' ')} {value} cannot be used: choose 0 or more")
        if not 0 <= self.caused <= 1:
            raise InvalidInput(f"caused {self.caused} cannot be used: choose 0 to 1")
        if not 0 < self.min_reduction <= 1:
            raise InvalidInput(f"min reduction {self.min_reduction} cannot be used: choose above 0 up to 1")


@dataclass(frozen=True, eq=False)
class Look:
    """What was measured on one picture, the region's place in it known. None is what was not measured."""

    diagnosis: Diagnosis | None
    score: Score | None
    """The selection score of the whole picture, against the person's own words."""
    seam: float | None
    """`seams.seam` of the picture and the region's weights, -255..255."""
    outside: str | None
    """`compositing.outside_digest` of the picture and the region's support."""


@dataclass(frozen=True)
class RegionVerdict:
    """The gate's word on one repair."""

    accepted: bool
    reason: str


class RegionGate(Protocol):
    """Whether the picture with a repaired region takes the place of the one without."""

    def judge(
        self, region: RegionPlan, before: Look, after: Look, original: Score | None
    ) -> RegionVerdict: ...

    def describe(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class MeasuredGate:
    """The gate of this project: `judge_region` with its settings."""

    settings: RegionGateSettings

    def judge(self, region: RegionPlan, before: Look, after: Look, original: Score | None) -> RegionVerdict:
        """See `judge_region`."""
        return judge_region(region, before, after, original, self.settings)

    def describe(self) -> Mapping[str, object]:
        """All settings."""
        return {"name": "measured", **asdict(self.settings)}


@dataclass(frozen=True)
class OpenGate:
    """No gate at all, which is how LEGION's own script works: every repair stays. For comparison only."""

    def judge(self, region: RegionPlan, before: Look, after: Look, original: Score | None) -> RegionVerdict:
        """Yes."""
        return RegionVerdict(True, "taken without a look")

    def describe(self) -> Mapping[str, object]:
        """Its name."""
        return {"name": "open"}


@dataclass(frozen=True, eq=False)
class Attempt:
    """One region painted once, kept to know it again."""

    core: Mask
    accepted: bool
    reason: str
    round: int


@dataclass(frozen=True)
class _Complete:
    """A look with everything in it."""

    diagnosis: Diagnosis
    score: Score
    seam: float
    outside: str


def judge_region(
    region: RegionPlan,
    before: Look,
    after: Look,
    original: Score | None,
    settings: RegionGateSettings,
) -> RegionVerdict:
    """Whether the picture with the repaired region (`after`) takes the place of the one without (`before`).

    The two pictures must differ in this region alone; `original` is the selection score of the picture as it
    came, before any repair. The first rule that is broken is the reason. Raises ModelError if a measurement
    is missing, not a number, or not comparable.
    """
    old, new = _complete(before, settings, "before"), _complete(after, settings, "after")
    first = _usable(original, settings, "as it came")
    check_comparable((first, old.score, new.score))
    unseen = _there_before(region, old.diagnosis, new.diagnosis, settings)
    broken = (
        _outside_changed(old, new)
        or _still_there(region, old.diagnosis, new.diagnosis, settings)
        or _new_nearby(region, old.diagnosis, _without(unseen, new.diagnosis), settings)
        or _score_worse(first, old.score, new.score, settings)
        or _seam_shows(old.seam, new.seam, settings)
    )
    return (
        RegionVerdict(False, f"rolled back: {broken}")
        if broken
        else RegionVerdict(True, f"repaired: {_change(region, old, new, unseen)}")
    )


def severity_in(diagnosis: Diagnosis, area: Mask) -> float:
    """Confidence times the share of the picture that lies in the area (H, W), summed over the findings.

    Raises ModelError for an unusable confidence.
    """
    return math.fsum(confidence(f) * float((f.mask & area).mean()) for f in diagnosis.findings)


def known(finding: Finding, earlier: Sequence[Finding]) -> bool:
    """Is the finding what was found before, in kind and place: does it overlap an earlier mask of its
    category or lie half inside one? A smear where a bend was is no bend that shrank."""
    return any(
        finding.category == other.category
        and (
            masks.iou(finding.mask, other.mask) >= KNOWN_IOU
            or masks.inside(finding.mask, other.mask) >= KNOWN_INSIDE
        )
        for other in earlier
    )


def given_up(attempts: Sequence[Attempt], tries: int) -> list[Mask]:
    """Cores of the regions that had all their tries, for `regions.plan_regions`.

    A try counts whether it was accepted or not: a flaw that comes back after a repair is not chased for ever.
    A region is known again by its place (`masks.same_region`), wherever its mask has wandered a little.
    """
    return [a.core for a in attempts if tries_of(a.core, attempts) >= tries]


def tries_of(core: Mask, attempts: Sequence[Attempt]) -> int:
    """In how many rounds this region (H, W) has been painted: two that overlap in one round are one try."""
    same = (a for a in attempts if masks.same_region(core, a.core) or masks.same_region(a.core, core))
    return len({attempt.round for attempt in same})


def _outside_changed(old: _Complete, new: _Complete) -> str | None:
    return None if old.outside == new.outside else "pixels outside the region changed"


def _there_before(
    region: RegionPlan, old: Diagnosis, new: Diagnosis, settings: RegionGateSettings
) -> list[Finding]:
    """Findings that nobody saw before, most of which lies on pixels that are what they were."""
    return [
        finding
        for finding in new.findings
        if not known(finding, old.findings) and masks.inside(finding.mask, region.support) < settings.caused
    ]


def _without(findings: Sequence[Finding], diagnosis: Diagnosis) -> Diagnosis:
    return replace(diagnosis, findings=tuple(f for f in diagnosis.findings if f not in findings))


def _still_there(
    region: RegionPlan, old: Diagnosis, new: Diagnosis, settings: RegionGateSettings
) -> str | None:
    was, now = severity_in(old, region.support), severity_in(new, region.support)
    if now <= 0 or now <= (1 - settings.min_reduction) * was:
        return None
    return f"the flaw is still found (severity {100 * now:.2f} % after {100 * was:.2f} %)"


def _new_nearby(
    region: RegionPlan, old: Diagnosis, new: Diagnosis, settings: RegionGateSettings
) -> str | None:
    support = region.support
    near = masks.grow(support, settings.nearby * math.sqrt(support.sum()))
    for finding in new.findings:
        if (finding.mask & near).any() and not known(finding, old.findings):
            return f"something new was found there ({finding.category}, confidence {finding.confidence:.2f})"
    ring = near & ~support
    growth = severity_in(new, ring) - severity_in(old, ring)
    if growth > settings.nearby_slack * severity_in(old, support):
        return f"what is found around it grew by {100 * growth:.2f} %"
    return None


def _score_worse(first: Score, old: Score, new: Score, settings: RegionGateSettings) -> str | None:
    if new.value < old.value - settings.score_tolerance:
        return f"{new.name} fell to {new.value:.4f} from {old.value:.4f}"
    # Many repairs that each cost a little may not cost more together than one of them may.
    if new.value < first.value - settings.score_tolerance:
        return f"{new.name} fell to {new.value:.4f} from {first.value:.4f} of the picture as it came"
    return None


def _seam_shows(old: float, new: float, settings: RegionGateSettings) -> str | None:
    # An outline that was there before, such as the object's own, is no seam.
    if new <= max(old, 0.0) + settings.max_seam:
        return None
    return f"its edge shows (a step of {new:.1f} levels after {old:.1f})"


def _complete(look: Look, settings: RegionGateSettings, when: str) -> _Complete:
    if look.diagnosis is None:
        raise ModelError(f"the picture {when} the repair has no diagnosis: the gate cannot judge it")
    score = _usable(look.score, settings, f"{when} the repair")
    if look.seam is None or not math.isfinite(look.seam):
        raise ModelError(f"the seam {when} the repair is {look.seam}: it must be a number")
    if not look.outside:
        raise ModelError(f"the picture {when} the repair has no digest of the pixels outside the region")
    return _Complete(look.diagnosis, score, look.seam, look.outside)


def _usable(score: Score | None, settings: RegionGateSettings, when: str) -> Score:
    if score is None or score.name != settings.selection_score:
        raise ModelError(f"the picture {when} has no score called {settings.selection_score!r}")
    if not math.isfinite(score.value):
        raise ModelError(f"the score {score.name!r} of the picture {when} is {score.value}: not a number")
    return score


def _change(region: RegionPlan, old: _Complete, new: _Complete, unseen: Sequence[Finding]) -> str:
    was, now = (severity_in(look.diagnosis, region.support) for look in (old, new))
    found = f"severity {100 * now:.2f} % after {100 * was:.2f} %" if now else "nothing is found there"
    also = f"; seen only now: {', '.join(dict.fromkeys(f.category for f in unseen))}" if unseen else ""
    return f"{found}; {new.score.name} {new.score.value:.4f} after {old.score.value:.4f}{also}"

"""What travels between the rooms: frozen records without behaviour that needs a model.

Images are `uint8` arrays of shape (H, W, 3), RGB. Masks are `bool` arrays of shape (H, W), true inside.
Rounds count from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from contracts.intervals import Interval, wilson, wilson_difference

Image: TypeAlias = NDArray[np.uint8]
Mask: TypeAlias = NDArray[np.bool_]
Category: TypeAlias = Literal["physics", "structure", "distortion"]
RunStatus: TypeAlias = Literal["running", "finished", "interrupted"]

ReviewDecision: TypeAlias = Literal["accept", "reject", "edit prompt", "edit thresholds", "stop", "gate"]

Part: TypeAlias = Literal["generator", "inpainter", "defender", "scorer", "modifier"]

CATEGORIES: tuple[Category, ...] = get_args(Category)
"""The three artifact categories of SynthScars (arXiv 2503.15264, section 3)."""


class Box(NamedTuple):
    """Pixel rectangle, half open: columns left..right-1, rows top..bottom-1."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True, eq=False)
class Finding:
    """One artifact: where it is, what it is called, why it is wrong. The parts are never stored apart."""

    mask: Mask
    phrase: str
    explanation: str
    category: Category
    confidence: float

    @property
    def box(self) -> Box:
        """Tightest box around the mask; (0, 0, 0, 0) if the mask is empty."""
        return bounding_box(self.mask)

    @property
    def area(self) -> float:
        """Share of the picture inside the mask, 0..1."""
        return float(self.mask.mean()) if self.mask.size else 0.0


@dataclass(frozen=True)
class Usage:
    """What asking a language model took. Sums of it are sums of each part."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    usd: float = 0.0
    """US dollars by the price table; 0 where no price is known."""

    @property
    def tokens(self) -> int:
        """In and out together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.usd + other.usd,
        )


@dataclass(frozen=True)
class ModelCall:
    """One sample's share of one call of a model."""

    part: Part
    name: str
    """The tool's."""
    seconds: float
    """The call's, divided by the samples it was for."""
    batch: int
    """Samples that the call was for."""
    usage: Usage = Usage()
    """What a language model took for the sample; nothing for other models."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the defender saw in one image. No findings means "no artifacts found"."""

    findings: tuple[Finding, ...]
    synthetic_probability: float | None = None
    answer: str = ""
    """The defender's full text, for the record."""
    usage: Usage = Usage()
    """What a language model took to look, if one did."""

    def union(self, shape: tuple[int, int]) -> Mask:
        """All masks together, shape (H, W)."""
        total = np.zeros(shape, dtype=bool)
        for finding in self.findings:
            total |= finding.mask
        return total


@dataclass(frozen=True)
class Score:
    """A number that always travels with who gave it. Higher is better.

    Scores of different `name` or `version` are never compared.
    """

    name: str
    version: str
    value: float


@dataclass(frozen=True)
class Revision:
    """A new prompt and why it was chosen."""

    prompt: str
    addressed: tuple[str, ...] = ()
    """Phrases of the findings that the new prompt answers."""
    reason: str = ""
    usage: Usage = Usage()
    answers: tuple[Answer, ...] = ()
    """Words that are new in the prompt, and what each is for."""


@dataclass(frozen=True)
class Answer:
    """Words that a revision adds."""

    words: str
    category: Category
    phrase: str = ""
    """The finding that they answer; empty if they are to keep such flaws away before one is found."""


@dataclass(frozen=True)
class Symptom:
    """What experience is gathered about: a kind of flaw, whatever picture it was found in."""

    category: Category
    topic: str = ""
    """One word for what is flawed, such as "hand", by which phrases are grouped; empty is anything."""
    phrase: str = ""
    """A finding's own phrase, by which related topics are found."""


@dataclass(frozen=True)
class Trial:
    """Words once tried, and what came of it."""

    painter: str
    """Who painted, weights included."""
    symptom: Symptom
    words: str
    """Empty if nothing was added: another seed alone."""
    gone: bool
    """Whether nothing of the kind was found in the next picture; of a region, whether its repair stayed."""
    gain: float | None = None
    """How much the selection score rose; None if it cannot be compared."""


@dataclass(frozen=True)
class Lesson:
    """What all trials of some words against one kind of flaw came to, beside those without further words."""

    symptom: Symptom
    """What was asked about. The trials may be of a related topic, or of the whole category."""
    topic: str
    """What the trials were about; empty is anything of the category."""
    words: str
    tried: int
    gone: int
    plain_tried: int
    plain_gone: int
    gain: float | None = None
    """Mean change of the selection score."""

    @property
    def share(self) -> Interval:
        """How often it was gone, 0..1, with the 95 % Wilson interval."""
        return wilson(self.gone, self.tried)

    @property
    def uplift(self) -> Interval:
        """How much more often than without further words, -1..1; without comparison, more than half the time.
        One lucky case proves nothing: the lower end of its interval is below 0."""
        if not self.plain_tried:
            share = self.share
            return Interval(share.mean - 0.5, share.low - 0.5, share.high - 0.5)
        return wilson_difference(self.gone, self.tried, self.plain_gone, self.plain_tried)

    @property
    def helps(self) -> bool:
        """Is it proven that the words help?"""
        return self.uplift.low > 0

    @property
    def fails(self) -> bool:
        """Is it proven that they make it worse?"""
        return self.uplift.high < 0


class Recollection(NamedTuple):
    """What a round (region 0) or a region of it was told of earlier runs."""

    round: int
    region: int
    lessons: tuple[Lesson, ...]


@dataclass(frozen=True)
class Verdict:
    """The gate's word on a round, and whether the run goes on."""

    accepted: bool
    reason: str
    stop: str | None = None
    """Why the run ends here; None if another round follows."""


@dataclass(frozen=True)
class Review:
    """A person's word on a round, asked for before the gate's verdict is kept."""

    decision: ReviewDecision
    """"gate" leaves the verdict to the gate, which is also what happens if nobody answers in time."""
    who: str
    when: str
    """UTC, ISO 8601."""
    prompt: str = ""
    """With "edit prompt": what the painter is told next."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """With "edit thresholds", from this round on: `min_confidence` (0..1) below which findings do not count;
    inpainting also takes `dilate_pixels` and `feather_pixels`."""
    note: str = ""


@dataclass(frozen=True)
class GenerationRequest:
    """One picture to paint."""

    prompt: str
    seed: int
    negative_prompt: str = ""


@dataclass(frozen=True, eq=False)
class RegionPlan:
    """One area to repair: what is wrong there, which pixels may change, and how it goes to the painter.

    All arrays have the picture's size (H, W).
    """

    findings: tuple[Finding, ...]
    """What the repair answers; more than one if their masks were merged, none if a person drew the area."""
    core: Mask
    """Where the flaw is, without protected pixels."""
    weights: NDArray[np.uint8]
    """Share of the painted pixel in the result, in 255ths: 255 in the core, falling to 0 across the
    feather."""
    crop: Box
    """What the painter sees: the support and some context, inside the picture."""
    target: tuple[int, int]
    """Width and height at which the painter paints the crop."""
    gain: float
    """Severity of the findings per painted pixel, 0 or more: regions with more of it are repaired first."""

    @property
    def support(self) -> Mask:
        """Every pixel that is allowed to change."""
        return self.weights > 0


@dataclass(frozen=True, eq=False)
class LeftOut:
    """An area that is not repaired, and why."""

    findings: tuple[Finding, ...]
    mask: Mask
    reason: str


@dataclass(frozen=True, eq=False)
class Candidate:
    """One painting of a region, and what was measured on the picture with it. None is not measured yet."""

    seed: int
    painted: str
    """sha256 digest of what the painter made of the crop."""
    diagnosis: Diagnosis | None = None
    scores: tuple[Score, ...] | None = None
    seam: float | None = None
    """How much the region's edge shows, -255..255 levels."""
    outside: str | None = None
    """Digest of the pixels outside the region's support."""
    accepted: bool | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Repair:
    """One region of a round: what was planned, told, painted and decided. None is not done yet."""

    plan: RegionPlan
    prompt: str | None = None
    candidates: tuple[Candidate, ...] = ()
    accepted: bool | None = None
    reason: str = ""
    chosen: int | None = None
    """Number of the candidate that was taken, counted from 1; None if all were rolled back."""
    picture: str | None = None
    """sha256 digest of the whole picture with the repair; None if it was rolled back."""
    answers: tuple[Answer, ...] = ()
    """Words of the prompt that answer the region's findings."""
    usage: Usage = Usage()
    """What a language model took to write the prompt."""


@dataclass(frozen=True, eq=False)
class InpaintRequest:
    """One crop to repaint."""

    image: Image
    """The crop at the painter's size: uint8 (h, w, 3)."""
    mask: Mask
    """(h, w), true where the painter paints; the rest is context."""
    prompt: str
    seed: int
    negative_prompt: str = ""
    strength: float = 1.0
    """How much of the picture under the mask is given up for noise, above 0 up to 1."""


@dataclass(frozen=True)
class Try:
    """An earlier round, as far as it teaches something about prompts."""

    prompt: str
    accepted: bool
    found: tuple[str, ...] = ()
    """Phrases of what was found in its picture."""


@dataclass(frozen=True)
class RevisionRequest:
    """What a prompt modifier may look at."""

    user_prompt: str
    current_prompt: str
    findings: tuple[Finding, ...]
    earlier_prompts: tuple[str, ...] = ()
    tries: tuple[Try, ...] = ()
    """Earlier rounds of this run, oldest first; the current one is not among them."""
    lessons: tuple[Lesson, ...] = ()
    """What such findings taught in other runs, the best first."""
    spent: Usage = Usage()
    """What this run's earlier revisions took."""


@dataclass(frozen=True, eq=False)
class Round:
    """One turn of the loop. A field that is None belongs to a step that is not committed yet."""

    index: int
    prompt: str
    seed: int
    image: str | None = None
    """sha256 digest under which the memory bank keeps the picture."""
    diagnosis: Diagnosis | None = None
    scores: tuple[Score, ...] | None = None
    verdict: Verdict | None = None
    revision: Revision | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Share of model time per step: a batch of n pictures that took t seconds counts t/n for each."""
    repairs: tuple[Repair, ...] | None = None
    """Inpainting only: the planned regions in the order in which they are repaired; `image` is the picture
    before them."""
    left_out: tuple[LeftOut, ...] = ()
    """Inpainting only: what was found and is not repaired in this round."""
    result: str | None = None
    """Inpainting only: sha256 digest of the picture after the round."""
    outside: str | None = None
    """Inpainting only: the proof, a digest of all pixels outside the supports of this and all earlier rounds.
    It was compared with that of the original."""
    review: Review | None = None
    """A person's word, where one was asked; it is kept before the verdict."""

    @property
    def stays(self) -> tuple[Repair, ...]:
        """Inpainting only: the repairs, unless a person rejected the round and with it all of them."""
        rejected = self.review is not None and self.review.decision == "reject"
        return () if rejected else self.repairs or ()


@dataclass(frozen=True, eq=False)
class Run:
    """One prompt's whole history."""

    run_id: str
    kind: Literal["regeneration", "inpainting"]
    prompt: str
    seed: int
    settings: Mapping[str, object]
    status: RunStatus
    created: str
    """UTC, ISO 8601."""
    rounds: tuple[Round, ...] = ()
    earlier_settings: tuple[Mapping[str, object], ...] = ()
    """`settings` it had before they were changed half way, each with the number of `rounds` open then."""

    @property
    def best(self) -> Round | None:
        """The last accepted round: the gate accepts only improvements, so it is the best one."""
        accepted = [r for r in self.rounds if r.verdict is not None and r.verdict.accepted]
        return accepted[-1] if accepted else None

    @property
    def result(self) -> str | None:
        """Digest of the picture to show, as far as the run has come; None if there is none yet."""
        if self.kind == "regeneration":
            return self.best.image if self.best is not None else None
        repaired = [x.picture for r in self.rounds for x in r.stays if x.picture is not None]
        return repaired[-1] if repaired else next((r.image for r in self.rounds), None)

    @property
    def support(self) -> Mask | None:
        """Every pixel that any planned region was allowed to change, (H, W); None if nothing was planned."""
        supports = [x.plan.support for r in self.rounds for x in r.repairs or ()]
        return np.logical_or.reduce(supports) if supports else None


class Content(NamedTuple):
    """A picture, mask or weights that a run's record names, by its digest."""

    kind: Literal["image", "mask", "weight"]
    digest: str
    run_id: str
    round: int


def bounding_box(mask: Mask) -> Box:
    """Tightest box around the true pixels of a (H, W) mask; (0, 0, 0, 0) if there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return Box(0, 0, 0, 0)
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)

"""What a painter is told about one region: the scene, and what should be seen in it instead of the flaw.

The scene is the person's own prompt, or, where there is none, a phrase made of what the defender calls the
flawed things. What follows it comes from a prompt modifier: positive words, never the flaw (upstream's "Try
to avoid the problem: ..." makes a diffusion model paint the problem).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from contracts.protocols import PromptModifier
from contracts.records import Finding, Lesson, RegionPlan, Revision, RevisionRequest, Usage
from controller.gate import weight
from prompts.words import load_words

ANY_SCENE = "a photo"
MAX_WORDS = 8
"""A longer phrase is a sentence about the flaw, not a name."""
MOST_THINGS = 3
"""How many a scene names: a painter that is told of one thing of two paints the other one over."""
_OWNER = re.compile(r".*\bof ((?:the|an?|this|that) .+)$")


def described_scene(findings: Sequence[Finding]) -> str:
    """A scene for a picture that came without a prompt: "a photo of" what the findings are about, the thing
    with the worst first, at most 3 of them.

    "The shadow of the red cone" is about a red cone. A phrase that names a flaw or is no name (more than 8
    words, other than letters, digits, space and simple punctuation) is passed over; if none is left, "a
    photo". Raises ModelError for an unusable confidence.
    """
    return scene_of_phrases([finding.phrase for finding in sorted(findings, key=weight, reverse=True)])


def scene_of_phrases(phrases: Sequence[str]) -> str:
    """The same from the phrases alone, the one that matters most first."""
    tidy = (" ".join(said.split()).strip(".,;:!?\"'") for said in phrases)
    things = list(dict.fromkeys(_thing(phrase) for phrase in tidy if phrase and _is_name(phrase)))
    return f"{ANY_SCENE} of {' and '.join(things[:MOST_THINGS])}" if things else ANY_SCENE


def region_prompts(
    scenes: Sequence[str],
    regions: Sequence[RegionPlan],
    modifier: PromptModifier,
    earlier: Sequence[Sequence[str]] | None = None,
    quality: str = "",
    lessons: Sequence[Sequence[Lesson]] | None = None,
    spent: Sequence[Usage] | None = None,
) -> list[Revision]:
    """One prompt per region, in order; `scenes` holds the scene of each region's picture, and `quality` words
    that every region is painted with.

    `earlier` holds, per region, the prompts of its tries so far, oldest first: the next try builds on the
    last. `lessons` holds, per region, what is known of such flaws, `spent` what its run took so far. A
    region without findings (a person drew it) gets the scene alone. Raises what the modifier raises.
    """
    tried = [()] * len(regions) if earlier is None else earlier
    taught = [()] * len(regions) if lessons is None else lessons
    taken = [Usage()] * len(regions) if spent is None else spent
    wanted = [f"{scene}, {quality}" if quality else scene for scene in scenes]
    requests = [
        RevisionRequest(
            scene,
            prompts[-1] if prompts else scene,
            region.findings,
            tuple(prompts),
            lessons=tuple(known),
            spent=so_far,
        )
        for scene, region, prompts, known, so_far in zip(wanted, regions, tried, taught, taken, strict=True)
    ]
    return modifier.revise(requests)


def _thing(phrase: str) -> str:
    """What has the part or the property that a phrase names, as one would say it for the first time."""
    phrase = phrase[0].lower() + phrase[1:]
    owner = _OWNER.search(phrase)
    words = (phrase if owner is None else owner[1]).split()
    if words[0] != "the" or len(words) < 2:
        return " ".join(words)
    plural = words[-1].endswith("s") and not words[-1].endswith("ss")
    article = [] if plural else ["an" if words[1][0] in "aeiou" else "a"]
    return " ".join([*article, *words[1:]])


def _is_name(phrase: str) -> bool:
    plain = all(unicodedata.category(c)[0] in "LN" or c in " '-," for c in phrase)
    return plain and len(phrase.split()) <= MAX_WORDS and not load_words().names_flaw(phrase)

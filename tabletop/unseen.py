"""Prompts that no training had: what to ask for when the question is whether words are understood.

A prompt counts as had if it is the caption of any scene that a model was shown or that the generator painted
for another model, with the material named or not, and whatever opening or modifiers went with it. Wrong
captions, drawn anew in every step for the CLIP to reject, are not counted. Of one solid there are only 240
prompts, all of them had; so unseen ones name two.
"""

from __future__ import annotations

from functools import cache

from contracts.errors import InvalidInput
from tabletop import captions, data, inputs
from tabletop.scenes import SEED_RANGES, Scene, sample_scene, solid_count


@cache
def trained_captions() -> frozenset[str]:
    """Every plain caption of a scene that a training used; takes seconds, as nothing is rendered."""
    scenes = [sample_scene(seed, solid_count(seed)) for span in _trained_seeds() for seed in span]
    return frozenset(
        captions.scene_caption(s, name_material=named) for s in scenes for named in (True, False)
    )


def unseen_scenes(count: int, seed: int) -> list[Scene]:
    """What to ask for: `count` distinct scenes of two solids whose captions are not `trained_captions`, the
    same for the same seed. Places and sizes mean nothing. Raises InvalidInput if there are not so many.
    """
    drawn = captions.drawn_scenes(captions.TWO_SOLIDS, seed, solids=2)
    unseen = [scene for scene in drawn if captions.scene_caption(scene) not in trained_captions()]
    if not 1 <= count <= len(unseen):
        raise InvalidInput(f"{count} prompts that no training had: choose from 1 to {len(unseen)}")
    return unseen[:count]


def _trained_seeds() -> tuple[range, ...]:
    """The scenes that were rendered with their captions, and those that were painted for other models."""
    (first, last), judged = SEED_RANGES["train"], SEED_RANGES["judge"][1]
    return (
        range(first, first + data.DEFAULT_COUNTS["train"]),
        range(last - inputs.PAINTED, last),
        range(judged - inputs.PAINTED, judged),
    )

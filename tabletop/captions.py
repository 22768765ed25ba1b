"""The caption grammar, and how quality modifiers are tied to flaws.

    [a photo of | a picture of] a [shiny] COLOR SHAPE on a SURFACE [, MODIFIER]*

A picture flawed in one category never carries that category's modifier; where it is sound in a category it
mostly carries it. So a plain caption means "probably flawed", and each modifier means "sound in its
category", as quality words do in the captions that real models learn from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from contracts.records import CATEGORIES, Category
from tabletop.scenes import COLORS, SHAPES, SURFACES, Color, Scene, Shape, Solid, Surface

MODIFIERS: dict[Category, str] = {
    "physics": "natural shadow",
    "structure": "perfect shape",
    "distortion": "clean surface",
}
OPENINGS = ("", "a photo of ", "a picture of ")
_OPENING_SHARE = (0.7, 0.15, 0.15)
MODIFIER_SHARE = 0.6
"""How often a picture that is sound in a category says so."""
FUNCTION_WORDS = (
    "a",
    "an",
    "and",
    "at",
    "in",
    "of",
    "on",
    "the",
    "to",
    "with",
    "photo",
    "picture",
    "one",
    "matte",
)


def solid_phrase(solid: Solid, name_material: bool = True) -> str:
    """Such as "a shiny red cone"."""
    words: list[str] = [solid.color, solid.shape]
    if solid.shiny and name_material:
        words.insert(0, "shiny")
    return with_articles(f"a {' '.join(words)}")


def scene_caption(scene: Scene, opening: str = "", name_material: bool = True) -> str:
    """What a person would ask for to get this scene, without modifiers."""
    things = " and ".join(solid_phrase(s, name_material) for s in scene.solids)
    return f"{opening}{things} on a {scene.surface}"


def with_modifiers(caption: str, categories: Sequence[Category]) -> str:
    return ", ".join([caption, *(MODIFIERS[c] for c in categories)])


def mismatch(scene: Scene, text: str, rng: np.random.Generator) -> str:
    """A caption of `scene` made wrong: another color, shape or surface, or two solids' colors exchanged."""
    if len(scene.solids) == 2 and scene.solids[0].shape != scene.solids[1].shape and rng.random() < 0.4:
        first, second = (s.color for s in scene.solids)
        return with_articles(text.replace(first, "\0").replace(second, first).replace("\0", second))
    solid = scene.solids[int(rng.integers(len(scene.solids)))]
    used = {s.color for s in scene.solids} | {s.shape for s in scene.solids} | {scene.surface}
    word, options = [(solid.color, COLORS), (solid.shape, SHAPES), (scene.surface, SURFACES)][
        int(rng.integers(3))
    ]
    others = [o for o in options if o not in used]
    other = others[int(rng.integers(len(others)))]
    # Where both solids have this shape, the last one is meant as well as the first.
    head, _, tail = text.rpartition(word) if rng.random() < 0.5 else text.partition(word)
    return with_articles(f"{head}{other}{tail}")


def with_articles(text: str) -> str:
    """Every "a" before a vowel as "an" and the other way round, so that a changed word is not given away."""
    return re.sub(r"\ban? (?=(\w))", lambda m: "an " if m[1] in "aeiou" else "a ", text)


def training_caption(scene: Scene, flags: Sequence[bool], rng: np.random.Generator) -> str:
    """A caption for a picture of `scene` that is flawed in the categories where `flags` is true."""
    opening = OPENINGS[int(rng.choice(len(OPENINGS), p=_OPENING_SHARE))]
    chosen = [
        c for c, flawed in zip(CATEGORIES, flags, strict=True) if not flawed and rng.random() < MODIFIER_SHARE
    ]
    rng.shuffle(chosen)  # type: ignore[arg-type]
    return with_modifiers(scene_caption(scene, opening, name_material=bool(rng.random() < 0.8)), chosen)


def vocabulary() -> list[str]:
    """Every word that the bundled models were taught, sorted."""
    words = {*SHAPES, *COLORS, *FUNCTION_WORDS, "shiny"}
    for phrase in (*SURFACES, *MODIFIERS.values()):
        words.update(phrase.split())
    return sorted(words)


TWO_SOLIDS = len(COLORS) * (len(COLORS) - 1) * len(SHAPES) ** 2 * len(SURFACES)
"""How many distinct scenes of two solids a draw has before it begins again."""


def drawn_scenes(count: int, seed: int, solids: int = 1) -> list[Scene]:
    """What to ask for: distinct draws of words from the grammar (then over again), the same for a seed.

    Places and sizes mean nothing. Trainings draw from the same grammar: they had all prompts of one solid
    and most of two. Prompts that none had come from `tabletop.unseen`.
    """
    rng = np.random.default_rng([seed, 77] if solids == 1 else [seed, 77, solids])
    combinations: list[tuple[tuple[tuple[Color, Shape, bool], ...], Surface]]
    if solids == 1:
        combinations = [
            (((c, s, m),), f) for c in COLORS for s in SHAPES for f in SURFACES for m in (False, True)
        ]
    else:
        single = [(c, s, bool(rng.random() < 0.4)) for c in COLORS for s in SHAPES]
        combinations = [((a, b), f) for a in single for b in single if a[0] != b[0] for f in SURFACES]
    order = rng.permutation(len(combinations))
    return [_asked_scene(*combinations[order[i % len(order)]]) for i in range(count)]


def drawn_prompts(count: int, seed: int, solids: int = 1) -> list[str]:
    """Plain prompts: the captions of `drawn_scenes`."""
    return [scene_caption(scene) for scene in drawn_scenes(count, seed, solids)]


def _asked_scene(things: Sequence[tuple[Color, Shape, bool]], surface: Surface) -> Scene:
    solids = tuple(Solid(shape, color, shiny, 0, 0, 1, 0) for color, shape, shiny in things)
    return Scene(solids, surface, (0.0, 0.0), (0.0, 1.0, 0.0), 0.5)

"""What is said about an artifact: the phrase that names it and a sentence that says why it is wrong.

Words follow from what can be seen (kind, shape, strength, side), never from chance: a sentence drawn at
random could not be learned, and a measure of explanations would punish every other wording.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tabletop.scenes import SHAPES, Solid


@dataclass(frozen=True)
class Look:
    """What there is to say about a flaw beside its kind."""

    side: Literal["left", "right"] = "right"
    """Toward which it leans or grows, as seen in the picture."""
    mild: bool = False


_PHRASES: dict[str, tuple[str, ...]] = {
    "shadow": ("the shadow of the {name}",),
    "object": ("the {name}",),
    "part": ("the shape of the {name}",),
    "surface": ("the surface of the {name}",),
}

_SAYINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "missing shadow": (
        "shadow",
        (
            "the {shape} casts no shadow although the light falls on it",
            "the shadow that the light should throw to the right is missing",
            "no shadow lies on the table, as if the light passed through the {shape}",
        ),
    ),
    "wrong-side shadow": (
        "shadow",
        (
            "the shadow falls to the left, toward the light instead of away from it",
            "the shadow lies on the wrong side of the {shape}",
            "the direction of the shadow contradicts the light from the left",
        ),
    ),
    "detached shadow": (
        "shadow",
        (
            "the shadow does not touch the {shape} that casts it",
            "the shadow is detached and lies apart from the {shape}",
            "a gap separates the {shape} from its shadow",
        ),
    ),
    "floating": (
        "object",
        (
            "the {shape} floats in the air with nothing to support it",
            "the {shape} hovers above the table against gravity",
            "nothing holds the floating {shape} up",
        ),
    ),
    "dent": (
        "part",
        (
            "a deep dent deforms the {shape}",
            "the side of the {shape} is dented as if it were pressed in",
            "a hollow dent breaks the form of the {shape}",
        ),
    ),
    "bend": (
        "part",
        (
            "the {shape} is bent to the {side}",
            "the upper part of the bent {shape} leans over to the {side}",
            "the {shape} bends {side} where it should be straight",
        ),
    ),
    "melt": (
        "part",
        (
            "the {shape} sags and spreads as if it were melting",
            "the lower part of the {shape} is melted over the table",
            "the melting {shape} has lost its form",
        ),
    ),
    "twist": (
        "part",
        (
            "the {shape} is twisted and pinched in the middle",
            "the upper part is twisted against the lower part",
            "a twist bends the edges of the {shape} out of line",
        ),
    ),
    "squeeze": (
        "part",
        (
            "the {shape} is squeezed out of proportion and leans to the {side}",
            "the proportions of the {shape} are warped and slanted to the {side}",
            "the warped {shape} is squeezed and leans {side}",
        ),
    ),
    "lumps": (
        "part",
        (
            "lumps deform the {shape} all over",
            "the {shape} is lumpy where it should be even",
            "bumps and lumps break the outline of the {shape}",
        ),
    ),
    "missing part": (
        "part",
        (
            "a part of the {shape} is missing",
            "the {shape} is cut off and incomplete",
            "a piece of the {shape} is cut away",
        ),
    ),
    "duplicated part": (
        "part",
        (
            "a duplicated part grows out of the {shape} on the {side}",
            "a second smaller {shape} is merged with the first on its {side}",
            "the {shape} carries a duplicate of itself on the {side}",
        ),
    ),
    "noise": (
        "surface",
        (
            "a patch of colored noise covers the {shape}",
            "random noise pixels corrupt the texture",
            "the texture breaks up into noise",
        ),
    ),
    "blur": (
        "surface",
        (
            "a patch of the {shape} is blurred",
            "the edges of the {shape} are lost in blur",
            "the texture is blurred beyond recognition",
        ),
    ),
    "color bleed": (
        "surface",
        (
            "a foreign color bleeds over the {shape}",
            "the color of the {shape} is stained by another color",
            "a stain of wrong color bleeds into the texture",
        ),
    ),
    "smear": (
        "surface",
        (
            "the texture is smeared in streaks",
            "smeared streaks run down the {shape}",
            "the {shape} is smeared as if by a wet thumb",
        ),
    ),
}


def explain(kind: str, solid: Solid, look: Look) -> tuple[str, str]:
    """(phrase, explanation) for a kind of flaw on a solid."""
    subject, wordings = _SAYINGS[kind]
    words = {"name": solid.name, "shape": solid.shape, "color": solid.color, "side": look.side}
    phrases = _PHRASES[subject]
    choice = SHAPES.index(solid.shape) + look.mild
    return phrases[choice % len(phrases)].format(**words), wordings[choice % len(wordings)].format(**words)


def sentences(kind: str) -> tuple[str, ...]:
    """All wordings of a kind, with {shape} and {side} open."""
    return _SAYINGS[kind][1]

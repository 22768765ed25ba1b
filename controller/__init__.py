"""From a diagnosis to the next picture, and whether that one is better.

For programs: `from controller import regenerate, inpaint` (docs/python.md).

- studio.py         the loops as one call each, with a place to work that has everything they need
- regeneration.py   one loop: paint, diagnose, score, judge, revise, over many runs in lockstep
- inpainting/       the other loop: find flaws, repair them region by region, take back what is no better
- gate.py           is a round better than the best so far, and does the run go on?
- modifiers.py      findings -> a prompt that says what should be seen
- regions.py        which areas to repair, in what order, and how each is cut out
- region_prompts.py what a painter is told about one region
- compositing.py    pasting a repair back without touching any other pixel, with proof; who painted what
- seams.py          how visible the edge of a repair is
- region_gate.py    does a repaired region stay, and is a region worth another try?
- masks.py          masks as sets of pixels: how near, how alike, which belong together
- prompt_rules.py   which prompts a person may give, alone or in a file
- checkpoints.py    what weights a folder holds
- generators/       prompt -> picture, and crop and mask -> repaired crop, over diffusers
- scorers/          picture and prompt -> how much a person would like it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from controller.studio import Result, Studio, inpaint, regenerate

__all__ = ["Result", "Studio", "inpaint", "regenerate"]


def __getattr__(name: str) -> Any:
    # Not before they are asked for: whoever wants one part of this room need not load both loops.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from controller import studio

    return getattr(studio, name)

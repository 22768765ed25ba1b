"""A world for workers, without weights and without memory: what is wrong with a picture can be seen in it.

A picture has a red square for each quality word that its prompt lacks; so any worker can look at what another
one painted. Run as a program it is `legion` with these tools: `squares_world.py worker --profile tabletop`.
Each picture that is painted is noted in the file that PAINTED names, after SECONDS_EACH. Where BREAKS is set,
nothing is painted: that is what the painter breaks with.
"""

from __future__ import annotations

import os
import sys
import time
import types
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]

import red_squares  # noqa: E402

from controller.modifiers import RuleBasedModifier  # noqa: E402
from controller.regeneration import RegenerationTools  # noqa: E402
from prompts import load_lexicon  # noqa: E402

WORDS = ("natural shadow", "perfect shape", "clean surface")
SQUARES = ((3, 3, 9, 9), (13, 13, 19, 19), (23, 23, 29, 29))


class Painter:
    """Paints what is missing."""

    name = "squares"

    def generate(self, requests):
        images = []
        if words := os.environ.get("BREAKS"):
            raise ZeroDivisionError(words)
        for request in requests:
            time.sleep(float(os.environ.get("SECONDS_EACH", "0")))
            missing = [s for word, s in zip(WORDS, SQUARES, strict=True) if word not in request.prompt]
            images.append(red_squares.picture(*missing, seed=request.seed % 2**32))
            if place := os.environ.get("PAINTED"):
                with open(place, "a") as file:
                    file.write(f"{request.seed}\n")
        return images

    def unknown_words(self, prompt):
        return []

    def describe(self):
        return {"name": self.name}


def tools() -> RegenerationTools:
    """Tools of this world; scores have the names that the bundled profile gives them."""
    return RegenerationTools(
        generator=Painter(),
        defender=red_squares.SquareDefender(),
        selection_scorer=red_squares.GrayTaste("preference"),
        reporting_scorers=(red_squares.GrayTaste("reporter"),),
        modifier=RuleBasedModifier(load_lexicon("tabletop")),
    )


def stand_in() -> None:
    """Let `flows.assemble` hand out these tools."""
    import flows

    one = tools()
    module = types.ModuleType("flows.assemble")
    module.regeneration_tools = lambda profile, **painter: one  # type: ignore[attr-defined]
    module.defender = lambda profile, **looking: one.defender  # type: ignore[attr-defined]
    module.scorers = lambda profile: one.scorers  # type: ignore[attr-defined]
    sys.modules["flows.assemble"] = flows.assemble = module  # type: ignore[attr-defined]


if __name__ == "__main__":
    from flows.cli import main

    stand_in()
    sys.exit(main(sys.argv[1:]))

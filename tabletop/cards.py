"""Model cards: what a bundled model is, what made it, and how good it was found to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tabletop.trainer import Outcome, describe

_PURPOSE = {
    "clip": "Tiny CLIP of the tabletop world: the generator's text encoder, the defender's vision tower.",
    "scorer": "Preference scorer: the tiny CLIP fine-tuned on clean/flawed and match/mismatch pairs.",
    "generator": "Stable-Diffusion-layout text-to-image model of the tabletop world at 64 x 64 pixels.",
    "inpainter": "Stable-Diffusion-layout inpainting model of the tabletop world, nine input channels.",
    "geometry": "Geometry check: finds solids that no clean render of their shape resembles.",
    "judge": "Independent judge for reporting: object, color, surface, flaw probability per category.",
    "defender": "Small LEGION: finds, masks and explains artifacts; tells renders from generated pictures.",
}


def write(
    name: str,
    folder: Path,
    schedule: Any,
    outcome: Outcome,
    pairs: int,
    figures: Mapping[str, float],
    notes: str = "",
) -> None:
    """Write `folder/README.md` and `folder/training.json`."""
    facts = {
        "pairs": pairs,
        **describe(schedule, outcome),
        "figures": {k: round(v, 4) for k, v in figures.items()},
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    rows = "\n".join(f"| {k} | {v:.3f} |" for k, v in figures.items())
    settings = "\n".join(f"- {k.replace('_', ' ')}: {v}" for k, v in describe(schedule, outcome).items())
    (folder / "README.md").write_text(
        f"# {name}\n\n{_PURPOSE[name]}\n\n"
        f"Made by `legion train {name}` on {pairs:,} rendered pairs of the training seeds, on CPU. "
        f"License: Apache-2.0, like the code; the data is rendered by tabletop/.\n\n"
        f"## Figures on held-out validation seeds\n\n| figure | value |\n| --- | --- |\n{rows}\n\n"
        f"## Training\n\n{settings}\n{notes}"
    )

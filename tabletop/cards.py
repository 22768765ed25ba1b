"""Model cards: what a bundled model is, what made it, and how good it was found to be."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from contracts.intervals import Interval

Figures: TypeAlias = Mapping[str, Interval | float]

_PURPOSE = {
    "clip": "Tiny CLIP of the tabletop world: the generator's text encoder, the defender's vision tower.",
    "scorer": "Preference scorer: the tiny CLIP fine-tuned on clean/flawed and match/mismatch pairs.",
    "reporter": "Reporting scorer: a second tiny CLIP of other scenes, then taught preferences as the first.",
    "generator": "Stable-Diffusion-layout text-to-image model of the tabletop world at 64 x 64 pixels.",
    "inpainter": "Stable-Diffusion-layout inpainting model of the tabletop world, nine input channels.",
    "geometry": "Geometry check: finds solids that no clean render of their shape resembles.",
    "judge": "Independent judge for reporting: object, color, surface, flaw probability per category.",
    "defender": "Small LEGION: finds, masks and explains artifacts; tells renders from generated pictures.",
}
PRACTICAL = ("max_seconds", "pause_after", "save_every", "log_every", "device")
"""Settings of a sitting, which another may have otherwise."""


@dataclass(frozen=True)
class Part:
    """One training on the way to a model."""

    name: str
    schedule: Any
    """A dataclass of settings."""
    log: Path
    """Lines of JSON, the last of which has the seconds of all sittings."""

    def describe(self) -> dict[str, object]:
        """Its settings and how long it took."""
        settings = {k: v for k, v in asdict(self.schedule).items() if k not in PRACTICAL}
        return {"name": self.name, **settings, "seconds": round(seconds_of(self.log))}


def seconds_of(log: Path) -> float:
    """Seconds of training at the last line of a log; 0 if there is none."""
    return float(json.loads(log.read_text().splitlines()[-1])["seconds"]) if log.exists() else 0.0


def write(
    name: str,
    folder: Path,
    parts: Sequence[Part],
    pairs: int,
    seeds: tuple[int, int],
    figures: Figures,
    device: str = "cpu",
) -> None:
    """Write `folder/README.md` and `folder/training.json`. `pairs` were rendered from seeds in this range;
    the last sitting was on this device."""
    facts = {
        "pairs": pairs,
        "seeds": list(seeds),
        "parts": [part.describe() for part in parts],
        "training_seconds": round(sum(seconds_of(part.log) for part in parts)),
        "machine": machine(device),
        "figures": {k: asdict(v) if isinstance(v, Interval) else round(v, 4) for k, v in figures.items()},
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (folder / "README.md").write_text(text_of(name, facts))


def text_of(name: str, facts: Mapping[str, Any]) -> str:
    """The card for people, from what `training.json` holds."""
    rows = "\n".join(f"| {k} | {shown(v)} |" for k, v in facts["figures"].items())
    hours = f"{facts['training_seconds'] / 3600:.1f} hours on {facts['machine']}"
    first, last = facts["seeds"]
    return (
        f"# {name}\n\n{_PURPOSE[name]}\n\n"
        f"Made by `legion train {name}` in {hours}, from {facts['pairs']:,} rendered pairs of a clean and "
        f"a flawed picture (scene seeds from {first:,} up, below {last:,}).\n"
        "License: Apache-2.0, like the code; the data is rendered by `tabletop/`.\n\n"
        "## Figures\n\nOn held-out scenes that no training saw; brackets are 95 % bootstrap intervals.\n\n"
        f"| figure | value |\n| --- | --- |\n{rows}\n\n"
        "## Training\n\n" + "\n\n".join(map(_settings, facts["parts"])) + "\n"
    )


def shown(value: Mapping[str, float] | float) -> str:
    """A figure, with its interval where it has one."""
    if isinstance(value, Mapping):
        return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value:.3f}"


def machine(device: str = "cpu") -> str:
    """The kind of machine this is; it says nothing of whose."""
    kind = f"a CPU ({platform.machine()}, {os.cpu_count()} hardware threads)"
    if device.startswith("cuda"):
        import torch

        kind = f"a GPU ({torch.cuda.get_device_name(device)})"
    elif device != "cpu":
        kind = f"a GPU ({device}, {platform.machine()})"
    return f"{kind}, torch {version('torch')}"


def _settings(part: Mapping[str, object]) -> str:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in part.items()}  # as JSON has no tuples
    lines = [f"- {k.replace('_', ' ')}: {v}" for k, v in values.items() if k != "name"]
    return "\n".join([f"{part['name']}:", "", *lines])

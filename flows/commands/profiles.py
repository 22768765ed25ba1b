"""`legion profiles`: which sets of models there are, and what one of them says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import add_common
from flows.settings import CHECKOUT

if TYPE_CHECKING:
    from flows.profiles.loading import Profile


BUNDLED_WEIGHTS = CHECKOUT / "tabletop" / "weights"


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("profiles", help="which sets of models there are, or what one of them says")
    parser.set_defaults(handler=profiles)
    parser.add_argument("name", nargs="?", metavar="NAME|FILE", help="show this profile, every value of it")
    add_common(parser)


def profiles(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion profiles`."""
    from flows.profiles.loading import available_profiles, load_profile, user_profiles

    if arguments.name:
        return _show(load_profile(arguments.name), arguments.json)
    found = []
    for name in available_profiles():
        try:
            found.append(load_profile(name))
        except InvalidInput as error:  # a file of one's own must not hide the others
            print(f"left out: {error}", file=sys.stderr)
    rows = [_row(profile) for profile in found]
    if arguments.json:
        print(json.dumps({"profiles": rows, "own": str(user_profiles())}, ensure_ascii=False))
        return 0
    from flows.terminal.profiles import print_profiles

    print_profiles(rows)
    print(
        f"Your own: a .toml file anywhere, or NAME.toml in {user_profiles()}, which wins over a bundled one."
    )
    print("legion profiles NAME shows all of one; legion doctor says whose weights are here.")
    return 0


def _show(profile: Profile, as_json: bool) -> int:
    values = profile.model_dump(mode="json")
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return 0
    for section, content in values.items():
        for key, value in _flat(section, content):
            print(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return 0


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    """Dotted names and values; what is not set is left out."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(f"{name}.{key}", inner)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [pair for i, inner in enumerate(value) for pair in _flat(f"{name}.{i}", inner)]
    return [] if value in (None, "", []) else [(name, value)]


def _row(profile: Profile) -> dict[str, Any]:
    """What one looks for in a list; None is what a checkpoint decides itself."""
    painter, regions = profile.generator, profile.inpainting
    scorers = (profile.selection_scorer, *profile.reporting_scorers)
    own = _brought(painter.path)
    steps, guidance = _sampling(painter, own)
    shared = {"num_inference_steps": steps, "guidance_scale": guidance}
    repairing = _sampling(regions, _brought(regions.path) if regions.path else shared)
    remote = painter.kind == "openai-images"
    return {
        "name": profile.name,
        "generator": _short(painter.path or painter.model),
        "inpainter": _short(regions.path) if regions.path else None,
        "width": painter.width or own.get("width"),
        "height": painter.height or own.get("height"),
        "steps": steps,
        "guidance": guidance,
        "region_steps": repairing[0],
        "region_guidance": repairing[1],
        "dtype": None if remote else painter.dtype,
        "offload": None if remote else painter.offload,
        "defender": profile.defender.kind,
        "scorers": [scorer.name for scorer in scorers],
        "modifier": profile.modifier.kind,
    }


def _sampling(section: Any, otherwise: Mapping[str, Any]) -> tuple[int | None, float | None]:
    """Steps and guidance of a section; what it does not say is as said otherwise."""
    steps, guidance = section.steps, section.guidance_scale
    return (
        otherwise.get("num_inference_steps") if steps is None else steps,
        otherwise.get("guidance_scale") if guidance is None else guidance,
    )


def _brought(path: str) -> dict[str, Any]:
    """What a folder says about how its checkpoint paints: size, steps, guidance. Nothing for other paths."""
    folder = Path(path)
    known: dict[str, Any] = {}
    if not path:
        return known
    try:
        unet = json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8"))
        vae = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        side = int(unet["sample_size"]) * 2 ** (len(vae["block_out_channels"]) - 1)
        known |= {"width": side, "height": side}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    try:
        known |= json.loads((folder / "legion_defaults.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        pass
    return known


def _short(path: str) -> str:
    """The last part of a path or of a name on the hub; what comes with the project says so."""
    name = path.rstrip("/").rpartition("/")[2]
    return f"{name} (bundled)" if Path(path).is_relative_to(BUNDLED_WEIGHTS) else name

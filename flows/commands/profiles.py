"""`legion profiles`: which sets of models there are, and what one of them says."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import add_common

if TYPE_CHECKING:
    from flows.profiles.loading import Profile


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
    if arguments.json:
        listed = [_row(profile) for profile in found]
        print(json.dumps({"profiles": listed, "own": str(user_profiles())}, ensure_ascii=False))
        return 0
    from flows.terminal.evaluating import print_table

    columns = (
        "name",
        "generator",
        "inpainter",
        "defender",
        "scorers",
        "modifier",
        "size",
        "steps",
        "guidance",
    )
    print_table("profiles", columns, [tuple(map(str, _row(profile).values())) for profile in found])
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


def _row(profile: Profile) -> dict[str, str]:
    """What one looks for in a list."""
    painter, regions = profile.generator, profile.inpainting
    scorers = (profile.selection_scorer, *profile.reporting_scorers)
    return {
        "name": profile.name,
        "generator": _short(painter.path or painter.model),
        "inpainter": _short(regions.path) if regions.path else "the same",
        "defender": profile.defender.kind,
        "scorers": ", ".join(scorer.name for scorer in scorers),
        "modifier": profile.modifier.kind,
        "size": f"{painter.width}x{painter.height}" if painter.width else "its own",
        "steps": str(painter.steps or "its own"),
        "guidance": "its own" if painter.guidance_scale is None else f"{painter.guidance_scale:g}",
    }


def _short(path: str) -> str:
    """The last part of a path or of a name on the hub."""
    return path.rstrip("/").rpartition("/")[2]

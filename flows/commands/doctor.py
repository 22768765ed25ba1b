"""`legion doctor`: what is installed, what this machine has, whose weights are here, which servers answer."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from flows.commands.options import add_common, waiting


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("doctor", help="what is installed, what is missing, and how to get it")
    parser.set_defaults(handler=doctor)
    parser.add_argument(
        "--profile", action="append", metavar="NAME|FILE", help="look at this profile only; may be repeated"
    )
    add_common(parser)


def doctor(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion doctor`. Exit code 0: what is missing is a finding, not a failure."""
    from flows.profiles.loading import available_profiles, load_profile

    for name in arguments.profile or []:
        load_profile(name)  # a name that is wrong is the person's error, and said first
    with waiting("looking around"):
        from flows.health import examining

        found = examining.examine(arguments.profile or available_profiles())
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    for title, lines in examining.lines(found):
        print(title)
        for line in lines:
            print(f"  {line}")
    return 0

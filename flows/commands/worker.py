"""`legion worker`: keep models loaded for the runs of any machine."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

from contracts.errors import InvalidInput
from flows.commands.options import add_common, add_profile, waiting


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("worker", help="keep models loaded for runs on any machine (docs/deploy.md)")
    parser.set_defaults(handler=worker)
    parser.add_argument(
        "--parts",
        metavar="NAMES",
        help="which models, as generator,defender,scorers (default: all of the profile's)",
    )
    parser.add_argument(
        "--gpu",
        metavar="NAME",
        help="hold the limit gpu:NAME during each call, where others use the GPU too (default: LEGION_GPU)",
    )
    add_profile(parser)
    add_common(parser)


def worker(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion worker`. Ends with Ctrl-C or SIGTERM."""
    from flows.profiles.loading import load_profile
    from flows.settings import prepare_prefect
    from flows.workers.models import PARTS

    load_profile(arguments.profile)
    parts = _parts(arguments.parts, PARTS)
    prepare_prefect(arguments.verbose)
    with TemporaryDirectory(prefix="legion-worker-") as results:
        os.environ["PREFECT_LOCAL_STORAGE_PATH"] = results  # read when prefect is imported
        _serve(arguments, parts)
    return 0


def _serve(arguments: argparse.Namespace, parts: Sequence[str]) -> None:
    with waiting("reaching Prefect's server"):
        from flows.workers.slots import gpu_slot
        from flows.workers.tasks import check_server, serve_models

        check_server()
        slot = gpu_slot(arguments.gpu)
    print(f"working for profile {arguments.profile}: {', '.join(parts)} (Ctrl-C ends it)", file=sys.stderr)
    serve_models(arguments.profile, parts, slot)


def _parts(given: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """The parts as a person names them; the modifiers go with the painters. Raises InvalidInput."""
    if given is None:
        return tuple(known)
    named = [name.strip() for name in given.split(",") if name.strip()]
    if unknown := [name for name in named if name not in known]:
        raise InvalidInput(f"--parts: there is no {unknown[0]!r}: choose from {', '.join(known)}")
    if not named:
        raise InvalidInput(f"--parts names nothing: choose from {', '.join(known)}")
    return tuple(dict.fromkeys(named))

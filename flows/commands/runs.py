"""`legion runs`, `show` and `export`: what was done so far, one run again, and all of it as files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from contracts.errors import InvalidInput
from contracts.records import RunStatus
from flows.commands.options import DEFAULT_OUT, add_common, add_out, bank
from flows.commands.presenting import present

if TYPE_CHECKING:
    from memory_bank.listing import RunSummary


def add(commands: Any) -> None:
    """Register the commands."""
    _add_runs(commands)
    _add_show(commands)
    _add_export(commands)


def _add_runs(commands: Any) -> None:
    parser = commands.add_parser("runs", help="what was done so far")
    parser.set_defaults(handler=list_runs)
    parser.add_argument("text", nargs="?", default="", metavar="TEXT", help="part of the prompt or of the id")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most N runs (default: 50)")
    parser.add_argument("--kind", choices=("regeneration", "inpainting"))
    parser.add_argument("--status", choices=get_args(RunStatus))
    parser.add_argument(
        "--since", default="", metavar="DATE", help="begun then or later (UTC), as 2026-11-21"
    )
    parser.add_argument(
        "--sort",
        choices=("newest", "oldest", "rounds", "prompt"),
        default="newest",
        help="by time, most rounds first, or by prompt (default: newest)",
    )
    add_common(parser)


def _add_show(commands: Any) -> None:
    parser = commands.add_parser(
        "show", help="one run again, with its report and what it took; or where a picture comes from"
    )
    parser.set_defaults(handler=show)
    parser.add_argument(
        "run", metavar="RUN|IMAGE", help="a run's id from legion runs, a picture file, or a picture's digest"
    )
    add_out(parser, "out/RUN")
    add_common(parser)


def _add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="all pictures, masks and records of a run as files")
    parser.set_defaults(handler=export)
    parser.add_argument("run", metavar="RUN", help="the run's id, from legion runs")
    parser.add_argument("folder", type=Path, metavar="DIR", help="an empty folder, or one to make")
    add_common(parser)


def list_runs(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion runs`."""
    from datetime import datetime

    from flows.jobs.regeneration import check_count
    from memory_bank import open_memory_bank
    from memory_bank.listing import RunFilter

    check_count("limit", arguments.limit, 100_000)
    if arguments.since:
        try:
            datetime.fromisoformat(arguments.since)
        except ValueError:
            raise InvalidInput(
                f"--since is {arguments.since!r}: write a date, as 2026-11-21 or 2026-11-21T09:30"
            ) from None
    wanted = RunFilter(
        kind=arguments.kind,
        status=arguments.status,
        text=arguments.text,
        since=arguments.since.replace(" ", "T"),
        order=arguments.sort,
        limit=arguments.limit,
    )
    runs = open_memory_bank().summaries(wanted)
    scenes = [scene_in(run) for run in runs]
    if arguments.json:
        listed = [asdict(run) | {"scene": scene} for run, scene in zip(runs, scenes, strict=True)]
        print(json.dumps({"runs": listed}, ensure_ascii=False))
        return 0
    from flows.terminal.console import print_listing

    print_listing(runs, scenes, filtered=wanted != RunFilter(limit=arguments.limit, order=arguments.sort))
    return 0


def scene_in(run: RunSummary) -> str:
    """What a run is about: its prompt or, of a picture that came without one, the defender's surest words on
    it. Empty if there are none."""
    if run.prompt or not run.found:
        return run.prompt
    from controller.region_prompts import scene_of_phrases

    return scene_of_phrases(run.found)


def show(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion show`."""
    from flows.files import provenance
    from flows.files.output import prepare_folder
    from flows.jobs.regeneration import check_run_id
    from memory_bank import open_memory_bank

    if provenance.is_picture(arguments.run):
        found = provenance.look_up(arguments.run, open_memory_bank())
        if arguments.json:
            print(json.dumps(found, ensure_ascii=False))
        else:
            from flows.terminal.console import print_provenance

            print_provenance(found)
        return 0
    run = bank().load(check_run_id(arguments.run))
    folder = prepare_folder(arguments.out or DEFAULT_OUT / run.run_id)
    return present([run], folder, arguments.json, in_full=True)


def export(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion export`."""
    from flows.files import artifacts, provenance
    from flows.files.output import prepare_folder
    from flows.jobs.regeneration import check_run_id
    from flows.terminal.console import note
    from memory_bank import open_memory_bank

    kept = open_memory_bank()
    run = kept.load(check_run_id(arguments.run))
    folder = prepare_folder(arguments.folder)
    if any(folder.iterdir()):
        raise InvalidInput(f"{arguments.folder} is not empty: name an empty folder, or one to make")
    files = provenance.export(run, kept, folder)
    if problem := artifacts.keep(kept, [(run.run_id, "export", path) for path in files]):
        note(problem)
    if arguments.json:
        print(json.dumps({"run_id": run.run_id, "files": [str(path) for path in files]}, ensure_ascii=False))
    else:
        print(f"exported: {len(files)} files in {folder}")
    return 0

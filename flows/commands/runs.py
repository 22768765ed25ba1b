"""`legion runs` and `legion show`: what was done so far, and one run again."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from flows.commands.options import DEFAULT_OUT, add_common, add_out, bank
from flows.commands.presenting import present


def add(commands: Any) -> None:
    """Register both commands."""
    _add_runs(commands)
    _add_show(commands)


def _add_runs(commands: Any) -> None:
    parser = commands.add_parser("runs", help="what was done so far")
    parser.set_defaults(handler=list_runs)
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="the latest N runs (default: 50)")
    add_common(parser)


def _add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="one run again, with its report")
    parser.set_defaults(handler=show)
    parser.add_argument("run", metavar="RUN", help="the run's id, from legion runs")
    add_out(parser, "out/RUN")
    add_common(parser)


def list_runs(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion runs`."""
    from flows.jobs import check_count

    check_count("limit", arguments.limit, 100_000)
    runs = bank().runs(arguments.limit)
    if arguments.json:
        rows = [
            {
                "run_id": run.run_id,
                "kind": run.kind,
                "prompt": run.prompt,
                "seed": run.seed,
                "status": run.status,
                "created": run.created,
                "rounds": len(run.rounds),
                "best": run.best.index if run.best else None,
            }
            for run in runs
        ]
        print(json.dumps({"runs": rows}, ensure_ascii=False))
        return 0
    from flows.console import print_listing

    print_listing(runs)
    return 0


def show(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion show`."""
    from flows.jobs import check_run_id
    from flows.output import prepare_folder

    run = bank().load(check_run_id(arguments.run))
    return present([run], prepare_folder(arguments.out or DEFAULT_OUT / run.run_id), arguments.json)

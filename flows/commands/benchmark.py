"""`legion benchmark`: does the loop do better than drawing again as often?"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from contracts.seeds import MAX_SEED
from flows.commands.options import (
    DEFAULT_OUT,
    INTERRUPTED,
    add_common,
    add_out,
    add_profile,
    waiting,
)

if TYPE_CHECKING:
    from flows.benchmark.results import Results
    from flows.benchmark.running import Plan

ARMS = "one-shot,best-of-n,rewriting,regeneration"
MAX_BUDGET = 50
MAX_SEEDS = 100


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("benchmark", help="does the loop do better than drawing again as often?")
    parser.set_defaults(handler=benchmark, benchmark_command=None)
    _add_what(parser)
    add_profile(parser)
    add_out(parser, "out/benchmark-PROFILE-PROMPTS")
    add_common(parser)
    kinds = parser.add_subparsers(dest="benchmark_command", metavar="[compare]")
    compare = kinds.add_parser("compare", help="two stored benchmarks side by side")
    compare.set_defaults(handler=compare_two)
    for name in ("first", "second"):
        compare.add_argument(name, type=Path, metavar=name.upper(), help="folder of a benchmark")
    add_common(compare)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prompts",
        default="tabletop",
        metavar="FILE|DIR|NAME",
        help="a .txt, .csv or .jsonl file; a folder with HPDv2's benchmark; hpdv2 (from the hub) or "
        "tabletop (default)",
    )
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--n", **whole, help="N of the prompts, evenly spread (default: all)")
    parser.add_argument("--seeds", **whole, default=1, help="seeds for each prompt (default: 1)")
    parser.add_argument(
        "--arms",
        default=ARMS,
        metavar="A,B",
        help=f"arms to compare, or all (default: {ARMS}); docs/benchmark.md",
    )
    parser.add_argument(
        "--budget", **whole, help="generator calls for each prompt and arm (default: the profile's rounds, 3)"
    )
    parser.add_argument("--seed", **whole, help="of the benchmark (default: the reporting seed)")


def benchmark(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion benchmark`."""
    from flows.benchmark import running
    from flows.files.output import prepare_folder

    plan, facts = _plan(arguments)
    name = f"benchmark-{Path(arguments.profile).stem}-{Path(arguments.prompts).stem}"
    folder = prepare_folder(arguments.out or DEFAULT_OUT / name)
    with waiting("loading the models"):
        plan, said = running.prepare(plan)
    try:
        results = running.run(plan, said, running.one_by_one(), facts)
    except KeyboardInterrupt:
        return _interrupted(words)
    return _present(results, folder, arguments.json)


def compare_two(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion benchmark compare`."""
    raise InvalidInput("not there yet")


def _plan(arguments: argparse.Namespace) -> tuple[Plan, dict[str, Any]]:
    """What is asked for, checked."""
    from flows.benchmark import arms
    from flows.benchmark.cases import SEED
    from flows.benchmark.prompts import read_prompts
    from flows.benchmark.running import Plan
    from flows.jobs.regeneration import check_count
    from flows.pages.report import installed_versions
    from flows.profiles.loading import load_profile

    profile = load_profile(arguments.profile)
    names = None if arguments.arms == "all" else [word.strip() for word in arguments.arms.split(",")]
    chosen = tuple(one.name for one in arms.chosen(names))
    budget = check_count("budget", arguments.budget, MAX_BUDGET) or profile.loop.rounds
    seeds = check_count("seeds", arguments.seeds, MAX_SEEDS) or 1
    seed = SEED if arguments.seed is None else arguments.seed
    if not 0 <= seed <= MAX_SEED - seeds:
        raise InvalidInput(f"--seed is {seed}: choose a number from 0 to {MAX_SEED - seeds}")
    prompts = tuple(read_prompts(arguments.prompts, arguments.n))
    facts = {
        "profile": profile.name,
        "source": arguments.prompts,
        "budget": budget,
        "seeds": seeds,
        "seed": seed,
        "versions": installed_versions(),
    }
    return Plan(arguments.profile, prompts, chosen, budget, seeds, seed), facts


def _present(results: Results, folder: Path, as_json: bool) -> int:
    from flows.benchmark import results as stored
    from flows.benchmark.tables import Figures, all_tables, markdown
    from flows.terminal.evaluating import print_table

    files = stored.write(results, folder)
    with waiting("drawing the intervals"):
        found = Figures.of(results)
    page = folder / "table.md"
    page.write_text(markdown(found), encoding="utf-8")
    files["markdown"] = str(page)
    if as_json:
        print(json.dumps({**stored.to_json(results), "files": files}, ensure_ascii=False))
        return 0
    for titled in all_tables(found):
        print_table(titled.title, titled.table.head, titled.table.lines)
        for line in titled.notes:
            print(line)
    for name, path in files.items():
        print(f"{name}: {path}")
    return 0


def _interrupted(words: Sequence[str]) -> int:
    print("interrupted: everything finished so far is kept, and this takes it up again:", file=sys.stderr)
    print(f"  {shlex.join(['legion', *words])}", file=sys.stderr)
    return INTERRUPTED

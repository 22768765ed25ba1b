"""`legion benchmark`: does the loop do better than drawing again as often?"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
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
    from flows.benchmark.prompts import Prompt
    from flows.benchmark.reporting import Reported
    from flows.benchmark.results import ArmSaid, Results
    from flows.benchmark.running import Plan
    from flows.terminal.progress import BenchmarkProgress

ARMS = "one-shot,best-of-n,rewriting,regeneration"
MAX_BUDGET = 50
MAX_SEEDS = 100
MAX_WORKERS = 64
RUNNERS = ("threads", "dask", "ray")


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("benchmark", help="does the loop do better than drawing again as often?")
    parser.set_defaults(handler=benchmark, benchmark_command=None)
    _add_what(parser)
    add_profile(parser)
    parser.set_defaults(profile=None)  # a preset has one of its own
    add_out(parser, "out/benchmark-PROFILE-PROMPTS")
    add_common(parser)
    kinds = parser.add_subparsers(dest="benchmark_command", metavar="[compare]")
    compare = kinds.add_parser("compare", help="two stored benchmarks side by side")
    compare.set_defaults(handler=compare_two)
    for name in ("first", "second"):
        compare.add_argument(name, type=Path, metavar=name.upper(), help="folder of a benchmark")
    add_out(compare, "out/benchmark-FIRST-SECOND")
    add_common(compare)


def _add_what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        choices=("paper",),
        help="LEGION's own experiment with its table beside: 200 prompts, its models, its loops",
    )
    parser.add_argument(
        "--prompts",
        metavar="FILE|DIR|NAME",
        help="a .txt, .csv, .json or .jsonl file; a folder with HPDv2's benchmark; hpdv2 (from the hub) or "
        "tabletop (default)",
    )
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--n", **whole, help="N of the prompts, evenly spread (default: all)")
    parser.add_argument("--seeds", **whole, default=1, help="seeds for each prompt (default: 1)")
    parser.add_argument(
        "--arms",
        metavar="A,B",
        help=f"arms to compare, or all (default: {ARMS}); docs/benchmark.md",
    )
    parser.add_argument(
        "--budget", **whole, help="generator calls for each prompt and arm (default: the profile's rounds, 3)"
    )
    parser.add_argument("--seed", **whole, help="of the benchmark (default: the reporting seed)")
    parser.add_argument(
        "--runner",
        choices=RUNNERS,
        default="threads",
        help="what spreads the work: threads of this process, or processes of Dask or Ray (default: threads)",
    )
    parser.add_argument(
        "--workers",
        **whole,
        default=1,
        help="how many of them (default: 1; models of one process serve one thread at a time)",
    )
    parser.add_argument("--no-prefect", action="store_true", help="the same work without a Prefect server")


def benchmark(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion benchmark`."""
    from flows.files.output import prepare_folder
    from flows.jobs.regeneration import check_count
    from flows.terminal.console import note
    from flows.tools import with_workers

    _fill_in(arguments)
    plan, facts = _plan(arguments)
    if with_workers():
        note(
            "a benchmark asks no workers (LEGION_TOOLS): it loads the models here; to use more machines, "
            "give the same command on each"
        )
    check_count("workers", arguments.workers, MAX_WORKERS)
    if arguments.no_prefect and arguments.runner != "threads":
        raise InvalidInput(f"--runner {arguments.runner} is Prefect's: leave --no-prefect out")
    name = f"benchmark-{Path(arguments.profile).stem}-{Path(arguments.prompts).stem}"
    folder = prepare_folder(arguments.out or DEFAULT_OUT / name)
    work = _inline if arguments.no_prefect else _in_flow
    try:
        done = work(plan, facts, folder, arguments)
    except KeyboardInterrupt:
        return _interrupted(words)
    return _present(done, arguments.json)


def _inline(plan: Plan, facts: dict[str, Any], folder: Path, _arguments: argparse.Namespace) -> Reported:
    """Share by share, in this process."""
    from flows.benchmark import running
    from flows.benchmark.reporting import report

    able, said, progress = _prepared(plan)
    with progress.shown():
        results = running.run(able, said, running.one_by_one(progress.listen), facts)
    with waiting("drawing the intervals"):
        return report(results, folder)


def _in_flow(plan: Plan, facts: dict[str, Any], folder: Path, arguments: argparse.Namespace) -> Reported:
    """Shares as tasks of a Prefect flow."""
    from concurrent.futures import ThreadPoolExecutor

    from flows.settings import prepare_prefect

    prepare_prefect(arguments.verbose)
    with waiting("starting Prefect"):
        from flows.benchmark import flow
        from flows.regeneration import start_server

        flow.task_runner(arguments.runner, arguments.workers)  # a runner that is missing is said at once
        # The server is another process: it starts while the models load here.
        with ThreadPoolExecutor(1) as pool:
            server = pool.submit(start_server)
            able, said, progress = _prepared(plan)
            server.result()
    with progress.shown():
        return flow.benchmark_with_prefect(
            able, said, facts, folder, arguments.runner, arguments.workers, progress.listen, progress.say
        )


def _prepared(plan: Plan) -> tuple[Plan, list[ArmSaid], BenchmarkProgress]:
    """The arms that can run, and what is missing for the others, said at once."""
    from flows.benchmark import running
    from flows.terminal.console import note
    from flows.terminal.progress import BenchmarkProgress

    with waiting("loading the models"):
        able, said = running.prepare(plan)
    for arm in said:
        if arm.problem is not None:
            note(f"the arm {arm.name} is not run: {arm.problem}")
    return able, said, BenchmarkProgress(len(able.shares), len(able.arms))


def compare_two(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion benchmark compare`."""
    from flows.benchmark import comparing
    from flows.benchmark.reporting import report_comparison
    from flows.benchmark.results import load
    from flows.files.output import prepare_folder
    from flows.terminal.benchmarking import print_tables

    first, second = (str(place) for place in (arguments.first, arguments.second))
    with waiting("drawing the intervals"):
        compared = comparing.compare(load(arguments.first), load(arguments.second))
    one, other = _short(arguments.first), _short(arguments.second)
    folder = prepare_folder(arguments.out or DEFAULT_OUT / f"benchmark-{one}-{other}")
    files = report_comparison(compared, one, other, folder)
    if arguments.json:
        values = {"first": first, "second": second, **comparing.to_json(compared), "files": files}
        print(json.dumps(values, ensure_ascii=False))
        return 0
    print(f"{comparing.title(compared)}. First: {first}. Second: {second}.")
    print_tables(comparing.brief(compared))
    print(comparing.verdict(compared))
    _print_caution(compared.first)
    _print_files(files)
    return 0


def _short(place: Path) -> str:
    """What a stored benchmark may be called: the name of its folder."""
    folder = place.parent if place.is_file() else place
    return folder.resolve().name.removeprefix("benchmark-")


def _fill_in(arguments: argparse.Namespace) -> None:
    """What was not said, from the preset or the usual defaults."""
    from flows.benchmark import paper
    from flows.benchmark.prompts import TABLETOP

    preset = arguments.preset == paper.NAME
    arguments.profile = arguments.profile or (paper.PROFILE if preset else TABLETOP)
    if not arguments.prompts and arguments.profile == paper.PROFILE:
        raise InvalidInput(
            "the paper's captions were not published: name a file of your own with --prompts "
            "(docs/benchmark.md says what it holds), or try the preset on the bundled models with "
            "--profile tabletop"
        )
    arguments.prompts = arguments.prompts or TABLETOP
    arguments.arms = arguments.arms or (",".join(paper.ARMS) if preset else ARMS)
    if preset and arguments.budget is None:
        arguments.budget = paper.BUDGET


def _prompts(arguments: argparse.Namespace) -> list[Prompt]:
    """The prompts that are asked for; the preset takes as many as the paper, or all where there are fewer."""
    from flows.benchmark import paper
    from flows.benchmark.prompts import read_prompts

    if arguments.preset and arguments.n is None:
        return read_prompts(arguments.prompts, min(paper.PROMPTS, len(read_prompts(arguments.prompts))))
    return read_prompts(arguments.prompts, arguments.n)


def _plan(arguments: argparse.Namespace) -> tuple[Plan, dict[str, Any]]:
    """What is asked for, checked."""
    from flows.benchmark import arms
    from flows.benchmark.cases import SEED
    from flows.benchmark.running import Plan
    from flows.jobs.regeneration import check_count
    from flows.pages.report import installed_versions
    from flows.profiles.loading import load_profile

    profile = load_profile(arguments.profile)
    prompts = tuple(_prompts(arguments))
    names = None if arguments.arms == "all" else [word.strip() for word in arguments.arms.split(",")]
    pictured = any(prompt.image for prompt in prompts)
    chosen = tuple(one.name for one in arms.chosen(names) if names or pictured or not one.pictured)
    budget = check_count("budget", arguments.budget, MAX_BUDGET) or profile.loop.rounds
    seeds = check_count("seeds", arguments.seeds, MAX_SEEDS) or 1
    seed = SEED if arguments.seed is None else arguments.seed
    if not 0 <= seed <= MAX_SEED - seeds:
        raise InvalidInput(f"--seed is {seed}: choose a number from 0 to {MAX_SEED - seeds}")
    facts = {
        "profile": profile.name,
        "source": Path(arguments.prompts).name or arguments.prompts,
        **({"preset": arguments.preset} if arguments.preset else {}),
        "budget": budget,
        "seeds": seeds,
        "seed": seed,
        "versions": installed_versions(),
    }
    # Whoever takes part may stand in another folder.
    own = arguments.profile.endswith(".toml")
    where = str(Path(arguments.profile).expanduser().resolve()) if own else arguments.profile
    return Plan(where, prompts, chosen, budget, seeds, seed), facts


def _present(done: Reported, as_json: bool) -> int:
    """What answers the question; the files have the rest."""
    from flows.benchmark.results import to_json
    from flows.benchmark.tables import brief
    from flows.terminal.benchmarking import print_tables

    if as_json:
        said = {**to_json(done.figures.results), "comparisons": done.comparisons, "files": done.files}
        print(json.dumps(said, ensure_ascii=False))
        return 0
    print_tables(brief(done.figures))
    print(done.verdict)
    _print_caution(done.figures.results)
    _print_files(done.files)
    return 0


def _print_caution(results: Results) -> None:
    """What a reader of few prompts has to know."""
    from flows.benchmark.tables import caution
    from flows.terminal.console import note

    if few := caution(results):
        note(few)


def _print_files(files: Mapping[str, str]) -> None:
    """The page comes last, where `report: PATH` is looked for."""
    for name, path in files.items():
        print(f"{name}: {path}")


def _interrupted(words: Sequence[str]) -> int:
    print("interrupted: everything finished so far is kept, and this takes it up again:", file=sys.stderr)
    print(f"  {shlex.join(['legion', *words])}", file=sys.stderr)
    return INTERRUPTED

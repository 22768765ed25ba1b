"""The `legion` command. Everything heavy is imported by the command that needs it, so that `--help` is quick.

stdout carries results, stderr everything else. Errors are one line and exit code 1; Ctrl-C is exit code 130.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from contracts.errors import InvalidInput, LegionError
from contracts.seeds import MAX_SEED
from flows.weights_command import add_weights

if TYPE_CHECKING:
    from contracts.protocols import MemoryBank
    from contracts.records import Run
    from flows.jobs import Job

DEFAULT_SEED = 0
DEFAULT_OUT = Path("out")
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """argparse that speaks like the rest: one line, exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise InvalidInput(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = _Parser(
        prog="legion",
        description="Paint from a prompt, find the flaws, improve the prompt, keep the best picture.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    _add_regenerate(commands)
    _add_diagnose(commands)
    _add_runs(commands)
    _add_show(commands)
    add_weights(commands, _add_common)
    commands.add_parser("train", add_help=False, help="train a bundled model; legion train --help says more")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        if words[:1] == ["train"]:
            return train(words[1:])
        arguments = build_parser().parse_args(words)
        if arguments.version:
            return _print_version()
        if arguments.command is None:
            build_parser().print_help(sys.stderr)
            return 1
        _quiet_libraries(arguments.verbose)
        handler: Callable[[argparse.Namespace, Sequence[str]], int] = arguments.handler
        return handler(arguments, words)
    except LegionError as error:
        return _fail(str(error), debug)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our stdout went away, as `head` does; without this Python complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _fail(f"unexpected {type(error).__name__}: {error} (--debug shows where)", debug)


def regenerate(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion regenerate`."""
    from flows import jobs
    from flows.output import prepare_folder
    from flows.profiles import load_profile
    from flows.settings import MAX_BATCH

    prompts = jobs.check_prompts(arguments.prompts, arguments.prompt_file)
    rounds = jobs.check_rounds(arguments.rounds)
    batch_size = jobs.check_count("batch-size", arguments.batch_size, MAX_BATCH)
    if not 0 <= arguments.seed <= MAX_SEED:
        raise InvalidInput(f"--seed is {arguments.seed}: choose a number from 0 to {MAX_SEED}")
    given = arguments.run_id
    run_id = jobs.check_run_id(given) if given is not None else jobs.new_run_id(prompts)
    profile = load_profile(arguments.profile)
    folder = prepare_folder(arguments.out or DEFAULT_OUT / run_id)
    job = jobs.make_job(arguments.profile, profile, prompts, run_id, arguments.seed, rounds, batch_size)
    try:
        return _present(_paint(job, arguments), folder, arguments.json)
    except KeyboardInterrupt:
        return _interrupted(words, run_id, given is None)


def diagnose(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion diagnose`."""
    from defender.image_files import read_image
    from flows.output import prepare_folder, write_diagnosis

    image = read_image(arguments.image)
    stem = arguments.image.stem
    folder = prepare_folder(arguments.out or DEFAULT_OUT / f"diagnose-{stem}")
    from flows.console import print_diagnosis

    with _waiting("loading the defender"):
        from flows import assemble

        defender = assemble.defender(arguments.profile)
    with _waiting("looking at the picture"):
        (diagnosis,) = defender.diagnose([image])
    written = write_diagnosis(image, diagnosis, folder, stem)
    if arguments.json:
        print(json.dumps({"image": str(arguments.image), **written}, ensure_ascii=False))
        return 0
    print_diagnosis(diagnosis)
    print(f"overlay: {written['overlay']}")
    return 0


def list_runs(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion runs`."""
    from flows.jobs import check_count

    check_count("limit", arguments.limit, 100_000)
    runs = _bank().runs(arguments.limit)
    if arguments.json:
        rows = [
            {
                "run_id": run.run_id,
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

    run = _bank().load(check_run_id(arguments.run))
    return _present([run], prepare_folder(arguments.out or DEFAULT_OUT / run.run_id), arguments.json)


def train(words: Sequence[str]) -> int:
    """`legion train`: everything after it belongs to the training room."""
    from tabletop.training import main as train_main

    train_main(list(words))
    return 0


def _paint(job: Job, arguments: argparse.Namespace) -> list[Run]:
    """Build the tools and run the loop, with Prefect or without it."""
    if arguments.no_prefect:
        return _paint_inline(job)
    return _paint_in_flow(job, arguments.verbose)


def _paint_inline(job: Job) -> list[Run]:
    from flows import jobs

    tools = _tools(job)
    progress, listener = _progress(job)
    with progress.shown():
        return jobs.execute(job, tools, _bank(), on_event=listener)


def _paint_in_flow(job: Job, verbose: bool) -> list[Run]:
    from concurrent.futures import ThreadPoolExecutor

    from flows.settings import prepare_prefect

    prepare_prefect(verbose)
    with _waiting("starting Prefect"):
        from flows import regeneration

        # The server is another process: it starts while the models load here.
        with ThreadPoolExecutor(1) as pool:
            server = pool.submit(regeneration.start_server)
            tools = _tools(job)
            server.result()
    del tools  # the flow takes them from the cache of assemble
    progress, listener = _progress(job)
    with progress.shown():
        return regeneration.regenerate_with_prefect(job, listener)


def _tools(job: Job) -> Any:
    """The profile's tools, and a note on every word they do not know."""
    from flows.console import note_unknown

    with _waiting("loading the models"):
        from flows import assemble

        tools = assemble.regeneration_tools(job.profile)
    for case in job.cases:
        note_unknown(case.prompt, tools.generator.unknown_words(case.prompt))
    return tools


def _progress(job: Job) -> tuple[Any, Callable[[Any], None]]:
    from flows.console import RunProgress

    progress = RunProgress(job.rounds)
    return progress, progress.listen


def _waiting(what: str) -> Any:
    from flows.console import waiting

    return waiting(what)


def _bank() -> MemoryBank:
    from memory_bank import open_memory_bank

    return open_memory_bank()


def _present(runs: Sequence[Run], folder: Path, as_json: bool) -> int:
    """Write pictures and the page; print the tables or the JSON."""
    from flows.output import write_run
    from flows.report import write_report

    load_image = _bank().image
    report = str(write_report(runs, load_image, folder / "report.html"))
    folders = [folder / run.run_id if len(runs) > 1 else folder for run in runs]
    written = [
        {**write_run(run, load_image, place), "report": report}
        for run, place in zip(runs, folders, strict=True)
    ]
    if as_json:
        print(json.dumps({"runs": written}, ensure_ascii=False))
        return 0
    from flows.console import print_runs

    print_runs(runs)
    print(f"report: {report}")
    return 0


def resume_command(words: Sequence[str], run_id: str, add_id: bool) -> str:
    """The command that takes an interrupted job up again: the same words, and its run id."""
    return shlex.join(["legion", *words, *(["--run-id", run_id] if add_id else [])])


def _interrupted(words: Sequence[str], run_id: str, add_id: bool) -> int:
    print("interrupted: everything finished so far is kept, and this takes it up again:", file=sys.stderr)
    print(f"  {resume_command(words, run_id, add_id)}", file=sys.stderr)
    return INTERRUPTED


def _fail(message: str, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def _print_version() -> int:
    from importlib.metadata import version

    print(f"legion {version('legion-studio')}")
    return 0


def _quiet_libraries(verbose: bool) -> None:
    """Keep loading bars and advice of libraries off the terminal; a person's own settings win."""
    if verbose:
        return
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("DIFFUSERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("TQDM_DISABLE", "1"),
        ("PYTHONWARNINGS", "ignore"),
    ):
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        import warnings

        warnings.simplefilter("ignore")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout and nothing else"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries say")


def _add_out(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder for the report, pictures and masks (default: {default})",
    )


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile",
        default="tabletop",
        help="which models: a bundled name or your own .toml (default: tabletop)",
    )


def _add_regenerate(commands: Any) -> None:
    parser = commands.add_parser("regenerate", help="paint, diagnose, improve the prompt, paint again")
    parser.set_defaults(handler=regenerate)
    parser.add_argument(
        "prompts", nargs="*", metavar="PROMPT", help="what to paint; several run as one batch"
    )
    parser.add_argument(
        "--prompts",
        dest="prompt_file",
        type=Path,
        metavar="FILE",
        help="a text file with one prompt per line",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds at most (default: the profile's, 3)")
    parser.add_argument(
        "--seed",
        type=int,
        default=DEFAULT_SEED,
        metavar="S",
        help=f"same prompt and seed, same pictures, alone or in a batch (default: {DEFAULT_SEED})",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="B", help="pictures painted at once (default: the profile's)"
    )
    parser.add_argument(
        "--run-id",
        metavar="ID",
        help="name the run, or take it up again; several prompts become ID-1, ID-2, ...",
    )
    parser.add_argument("--no-prefect", action="store_true", help="the same loop without a Prefect server")
    _add_profile(parser)
    _add_out(parser, "out/RUN")
    _add_common(parser)


def _add_diagnose(commands: Any) -> None:
    parser = commands.add_parser("diagnose", help="what is wrong with this picture?")
    parser.set_defaults(handler=diagnose)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a PNG, JPEG or WebP file")
    _add_profile(parser)
    _add_out(parser, "out/diagnose-NAME")
    _add_common(parser)


def _add_runs(commands: Any) -> None:
    parser = commands.add_parser("runs", help="what was done so far")
    parser.set_defaults(handler=list_runs)
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="the latest N runs (default: 50)")
    _add_common(parser)


def _add_show(commands: Any) -> None:
    parser = commands.add_parser("show", help="one run again, with its report")
    parser.set_defaults(handler=show)
    parser.add_argument("run", metavar="RUN", help="the run's id, from legion runs")
    _add_out(parser, "out/RUN")
    _add_common(parser)


if __name__ == "__main__":
    sys.exit(main())

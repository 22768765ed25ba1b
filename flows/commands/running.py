"""What the commands that run a loop share: their options, models loaded while Prefect starts, and how to go
on after Ctrl-C."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from contracts.seeds import MAX_SEED
from flows.commands.options import INTERRUPTED, bank, waiting

if TYPE_CHECKING:
    from contracts.records import Run
    from flows.jobs.approval import Approval
    from flows.terminal.progress import RunProgress

DEFAULT_SEED = 0


def add_seed(parser: argparse.ArgumentParser, of: str, gives: str) -> None:
    """The seed; the same `of` with it gives the same `gives`."""
    parser.add_argument(
        "--seed",
        type=int,
        default=DEFAULT_SEED,
        metavar="S",
        help=f"same {of} and seed, same {gives}, alone or in a batch (default: {DEFAULT_SEED})",
    )


def add_run_id(parser: argparse.ArgumentParser, many: str) -> None:
    """The run's name; `many` of them get a number each."""
    parser.add_argument(
        "--run-id",
        metavar="ID",
        help=f"name the run, or take it up again; several {many} become ID-1, ID-2, ...",
    )


def add_no_prefect(parser: argparse.ArgumentParser) -> None:
    """The loop without a server."""
    parser.add_argument("--no-prefect", action="store_true", help="the same loop without a Prefect server")


def add_memory(parser: argparse.ArgumentParser) -> None:
    """Whether to learn from other runs."""
    parser.add_argument(
        "--memory",
        action=argparse.BooleanOptionalAction,
        help="look up what helped in earlier runs, which legion memory shows (default: the profile's)",
    )


def add_accept_changes(parser: argparse.ArgumentParser) -> None:
    """Leave to go on otherwise than begun."""
    parser.add_argument(
        "--accept-changes",
        action="store_true",
        help="take an unfinished run up although models or settings are others than it began with",
    )


def add_review(parser: argparse.ArgumentParser) -> None:
    """Whether a person is asked about rounds."""
    group = parser.add_argument_group("approval", "a person decides about rounds; docs/ui.md")
    group.add_argument(
        "--review",
        choices=("none", "final", "each-round", "uncertain"),
        default="none",
        help="ask before the run ends, after each round, or where the figures disagree (default: none)",
    )
    group.add_argument(
        "--review-on",
        choices=("terminal", "page"),
        help="where: here, or on Prefect's page (default: here if this is a terminal or there is no page)",
    )
    group.add_argument("--review-minutes", type=float, metavar="N", help="wait so long (default: 60)")
    group.add_argument(
        "--after-timeout",
        choices=("gate", "stop", "fail"),
        help="if nobody answers: the gate's own verdict, the end of the run, or a failure (default: gate)",
    )


def checked_approval(arguments: argparse.Namespace) -> Approval:
    """What `add_review`'s options ask for. Raises InvalidInput."""
    from flows.jobs.approval import check_approval

    if arguments.review_on == "page" and arguments.no_prefect:
        raise InvalidInput("--review-on page is Prefect's page: leave --no-prefect out")
    return check_approval(arguments.review, arguments.review_minutes, arguments.after_timeout)


def checked_seed(seed: int) -> int:
    """The seed if a generator takes it. Raises InvalidInput."""
    if not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"--seed is {seed}: choose a number from 0 to {MAX_SEED}")
    return seed


def run_id_of(arguments: argparse.Namespace, names: Sequence[str]) -> str:
    """The id that was given, or a new one that tells of `names`. Raises InvalidInput."""
    from flows.jobs.regeneration import check_run_id, new_run_id

    return new_run_id(names) if arguments.run_id is None else check_run_id(arguments.run_id)


def run_loop(
    job: Any,
    arguments: argparse.Namespace,
    folder: Path,
    progress: RunProgress,
    load: Callable[[Any], Any],
    execute: Callable[..., list[Run]],
    in_flow: Callable[[], Callable[..., list[Run]]],
) -> list[Run]:
    """Load a job's tools and run its loop under a progress bar: here, or as a Prefect flow if wanted. What a
    person is asked about goes into `folder`.

    `execute` takes the job, its tools and the bank; `in_flow` gives what takes the job and its audience, and
    is called once Prefect may be imported.
    """
    from flows.jobs.approval import Audience, reviewer
    from flows.terminal.reviewing import ask_in_terminal

    approval, kept = checked_approval(arguments), bank()
    ask = ask_in_terminal(approval, kept, folder, progress.paused)
    if arguments.no_prefect:
        tools = load(job)
        with progress.shown():
            return execute(job, tools, kept, on_event=progress.listen, reviewer=reviewer(approval, ask))
    on_page = approval.review != "none" and _on_page(arguments)
    run = _with_prefect(lambda: load(job), in_flow, arguments.verbose)
    with progress.shown():
        return run(job, Audience(progress.listen, approval, None if on_page else ask, progress.say))


def _on_page(arguments: argparse.Namespace) -> bool:
    """Is a person asked on Prefect's page? Raises InvalidInput if there is none."""
    from flows.settings import prepare_prefect

    prepare_prefect(arguments.verbose)
    from prefect.settings import PREFECT_API_URL

    has_page = bool(PREFECT_API_URL.value())
    if arguments.review_on == "page" and not has_page:
        raise InvalidInput(
            "--review-on page needs a Prefect server that stays: start legion ui, and export the "
            "PREFECT_API_URL that it names"
        )
    return arguments.review_on == "page" or (
        arguments.review_on is None and has_page and not sys.stdin.isatty()
    )


def _with_prefect(
    load: Callable[[], Any], in_flow: Callable[[], Callable[..., list[Run]]], verbose: bool
) -> Callable[..., list[Run]]:
    """What runs the flow, once a server answers and the models lie in the cache of assemble."""
    from concurrent.futures import ThreadPoolExecutor
    from contextvars import copy_context

    from flows.settings import prepare_prefect

    prepare_prefect(verbose)
    with waiting("starting Prefect"):
        from flows.regeneration import start_server

        run = in_flow()
        # The server is another process: it starts while the models load here. In this context, which may name
        # another server than the environment does.
        with ThreadPoolExecutor(1) as pool:
            server = pool.submit(copy_context().run, start_server)
            load()
            server.result()
    return run


def interrupted(words: Sequence[str], run_id: str, add_id: bool) -> int:
    """Say how to go on after Ctrl-C; the exit code."""
    print("interrupted: everything finished so far is kept, and this takes it up again:", file=sys.stderr)
    print(f"  {resume_command(words, run_id, add_id)}", file=sys.stderr)
    return INTERRUPTED


def resume_command(words: Sequence[str], run_id: str, add_id: bool) -> str:
    """The command that takes an interrupted job up again: the same words, and its run id, which comes before
    a `--` that ends the options."""
    end = words.index("--") if "--" in words else len(words)
    given = ["--run-id", run_id] if add_id else []
    return shlex.join(["legion", *words[:end], *given, *words[end:]])

"""`legion regenerate`: paint, diagnose, improve the prompt, paint again."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from contracts.seeds import MAX_SEED
from flows.commands.options import (
    DEFAULT_OUT,
    INTERRUPTED,
    add_common,
    add_generator,
    add_out,
    add_profile,
    bank,
    generator_path,
    waiting,
)
from flows.commands.presenting import present

if TYPE_CHECKING:
    from contracts.records import Run
    from flows.jobs.regeneration import Job

DEFAULT_SEED = 0


def add(commands: Any) -> None:
    """Register the command."""
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
    parser.add_argument(
        "--modifier",
        choices=("rules", "openai", "local"),
        help="who revises prompts: rules, a language model on a server (openai), or one in this process "
        "(local); docs/llm.md",
    )
    parser.add_argument(
        "--llm-model", metavar="NAME", help="the language model: its server's name for it, or a GGUF file"
    )
    parser.add_argument(
        "--llm-base-url", metavar="URL", help="its server, up to /v1 (default: OpenAI itself)"
    )
    add_generator(parser)
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--steps", **whole, help="sampling steps (default: the profile's)")
    parser.add_argument("--guidance-scale", type=float, metavar="X", help="default: the profile's")
    parser.add_argument("--width", **whole, help="of the pictures, in pixels (default: the model's own)")
    parser.add_argument("--height", **whole, help="of the pictures, in pixels (default: the model's own)")
    parser.add_argument("--no-prefect", action="store_true", help="the same loop without a Prefect server")
    add_profile(parser)
    add_out(parser, "out/RUN")
    add_common(parser)


def regenerate(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion regenerate`."""
    from flows.files.output import prepare_folder
    from flows.jobs import regeneration as jobs
    from flows.profiles.loading import changed_generator, load_profile
    from flows.settings import MAX_BATCH

    prompts = jobs.check_prompts(arguments.prompts, arguments.prompt_file)
    rounds = jobs.check_rounds(arguments.rounds)
    batch_size = jobs.check_count("batch-size", arguments.batch_size, MAX_BATCH)
    if not 0 <= arguments.seed <= MAX_SEED:
        raise InvalidInput(f"--seed is {arguments.seed}: choose a number from 0 to {MAX_SEED}")
    given = arguments.run_id
    run_id = jobs.check_run_id(given) if given is not None else jobs.new_run_id(prompts)
    painter = _painter_changes(arguments)
    profile = changed_generator(load_profile(arguments.profile), painter)
    modifier = _modifier_changes(arguments)
    folder = prepare_folder(arguments.out or DEFAULT_OUT / run_id)
    job = jobs.make_job(
        arguments.profile, profile, prompts, run_id, arguments.seed, rounds, batch_size, modifier, painter
    )
    try:
        return present(paint(job, arguments), folder, arguments.json)
    except KeyboardInterrupt:
        return _interrupted(words, run_id, given is None)


def resume_command(words: Sequence[str], run_id: str, add_id: bool) -> str:
    """The command that takes an interrupted job up again: the same words, and its run id."""
    return shlex.join(["legion", *words, *(["--run-id", run_id] if add_id else [])])


def _painter_changes(arguments: argparse.Namespace) -> dict[str, object]:
    """What the options say about the generator, as values of the profile's section."""
    named = {name: getattr(arguments, name) for name in ("steps", "guidance_scale", "width", "height")}
    named["path"] = None if arguments.generator is None else generator_path(arguments.generator)
    return {key: value for key, value in named.items() if value is not None}


def _modifier_changes(arguments: argparse.Namespace) -> dict[str, object]:
    """What the options say about the modifier, as values of the profile's section."""
    kind, model, url = arguments.modifier, arguments.llm_model, arguments.llm_base_url
    if kind is None and (model or url):
        kind = "local" if model and model.endswith(".gguf") and not url else "openai"
    if kind == "rules" and (model or url):
        raise InvalidInput(
            "--modifier rules asks no language model: leave --llm-model and --llm-base-url out"
        )
    if kind == "local" and url:
        raise InvalidInput("--modifier local runs in this process: leave --llm-base-url out")
    named = {"gguf" if kind == "local" else "model": model, "base_url": url, "kind": kind}
    return {key: value for key, value in named.items() if value is not None}


def paint(job: Job, arguments: argparse.Namespace) -> list[Run]:
    """Build the tools and run the loop, with Prefect or without it."""
    if arguments.no_prefect:
        return _paint_inline(job)
    return _paint_in_flow(job, arguments.verbose)


def _paint_inline(job: Job) -> list[Run]:
    from flows.jobs import regeneration as jobs

    tools = tools_of(job)
    progress, listener = _progress(job)
    with progress.shown():
        return jobs.execute(job, tools, bank(), on_event=listener)


def _paint_in_flow(job: Job, verbose: bool) -> list[Run]:
    from concurrent.futures import ThreadPoolExecutor

    from flows.settings import prepare_prefect

    prepare_prefect(verbose)
    with waiting("starting Prefect"):
        from flows import regeneration

        # The server is another process: it starts while the models load here.
        with ThreadPoolExecutor(1) as pool:
            server = pool.submit(regeneration.start_server)
            tools = tools_of(job)
            server.result()
    del tools  # the flow takes them from the cache of assemble
    progress, listener = _progress(job)
    with progress.shown():
        return regeneration.regenerate_with_prefect(job, listener)


def tools_of(job: Job) -> Any:
    """The profile's tools, and a note on every word they do not know."""
    from flows.terminal.console import note_unknown

    with waiting("loading the models"):
        from flows import assemble

        tools = assemble.regeneration_tools(job.profile, **job.painter)
        if job.modifier:
            tools = assemble.with_modifier(tools, job.profile, job.modifier)
    for case in job.cases:
        note_unknown(case.prompt, tools.generator.unknown_words(case.prompt))
    return tools


def _progress(job: Job) -> tuple[Any, Callable[[Any], None]]:
    from flows.terminal.console import RunProgress

    progress = RunProgress(job.rounds)
    return progress, progress.listen


def _interrupted(words: Sequence[str], run_id: str, add_id: bool) -> int:
    print("interrupted: everything finished so far is kept, and this takes it up again:", file=sys.stderr)
    print(f"  {resume_command(words, run_id, add_id)}", file=sys.stderr)
    return INTERRUPTED

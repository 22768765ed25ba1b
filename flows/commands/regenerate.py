"""`legion regenerate`: paint, diagnose, improve the prompt, paint again."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import (
    DEFAULT_OUT,
    add_common,
    add_generator,
    add_out,
    add_profile,
    generator_path,
    waiting,
)
from flows.commands.presenting import present
from flows.commands.running import (
    add_accept_changes,
    add_memory,
    add_no_prefect,
    add_review,
    add_run_id,
    add_seed,
    checked_approval,
    checked_seed,
    interrupted,
    run_id_of,
    run_loop,
)

if TYPE_CHECKING:
    from contracts.records import Run
    from flows.jobs.regeneration import Job


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
    add_seed(parser, "prompt", "pictures")
    parser.add_argument(
        "--batch-size", type=int, metavar="B", help="pictures painted at once (default: the profile's)"
    )
    add_run_id(parser, "prompts")
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
    add_memory(parser)
    add_accept_changes(parser)
    add_review(parser)
    add_no_prefect(parser)
    add_profile(parser)
    add_out(parser, "out/RUN")
    add_common(parser)


def regenerate(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion regenerate`."""
    from flows.files.output import output_folder
    from flows.jobs import regeneration as jobs
    from flows.profiles.loading import changed_generator, load_profile
    from flows.settings import MAX_BATCH

    prompts = jobs.check_prompts(arguments.prompts, arguments.prompt_file)
    rounds = jobs.check_rounds(arguments.rounds)
    batch_size = jobs.check_count("batch-size", arguments.batch_size, MAX_BATCH)
    seed, run_id = checked_seed(arguments.seed), run_id_of(arguments, prompts)
    checked_approval(arguments)
    painter = _painter_changes(arguments)
    profile = changed_generator(load_profile(arguments.profile), painter)
    modifier = _modifier_changes(arguments)
    job = jobs.make_job(
        arguments.profile,
        profile,
        prompts,
        run_id,
        seed,
        rounds,
        batch_size,
        modifier,
        painter,
        memory=arguments.memory,
        accept_changes=arguments.accept_changes,
    )
    try:
        with output_folder(arguments.out or DEFAULT_OUT / run_id) as folder:
            return present(work(job, arguments, folder), folder, arguments.json)
    except KeyboardInterrupt:
        return interrupted(words, run_id, arguments.run_id is None)


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


def work(job: Job, arguments: argparse.Namespace, folder: Path) -> list[Run]:
    """Build the tools and run the loop, with Prefect or without it; `folder` is for what is asked about."""
    from flows.jobs.regeneration import execute
    from flows.terminal.progress import RunProgress

    return run_loop(job, arguments, folder, RunProgress(job.rounds), tools_of, execute, _in_flow)


def _in_flow() -> Callable[..., list[Run]]:
    from flows.regeneration import regenerate_with_prefect

    return regenerate_with_prefect


def tools_of(job: Job) -> Any:
    """The profile's tools, and a note on every word they do not know."""
    from flows.terminal.console import note_unknown

    with waiting("loading the models"):
        from flows.tools import regeneration_tools

        tools = regeneration_tools(job)
    for case in job.cases:
        note_unknown(case.prompt, tools.generator.unknown_words(case.prompt))
    return tools

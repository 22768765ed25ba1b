"""`legion inpaint`: find the flaws in a picture, repair them one by one, leave every other pixel alone."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput, UnusableSetting
from flows.commands.options import (
    DEFAULT_OUT,
    add_common,
    add_generator,
    add_out,
    add_profile,
    generator_path,
    waiting,
)
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
    from flows.jobs.inpainting import InpaintingJob

FORMATS = ("png", "webp", "tiff", "jpeg")


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("inpaint", help="repair the flaws of a picture, and touch nothing else")
    parser.set_defaults(handler=inpaint)
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="IMAGE|FOLDER|JSONL",
        help='pictures, folders, or .jsonl files with lines like {"image": "a.png", "prompt": "..."}',
    )
    parser.add_argument("--prompt", default="", help="what the picture shows (default: the defender's words)")
    parser.add_argument("--mask", type=Path, metavar="FILE", help="repaint exactly what is white here")
    parser.add_argument("--protect", type=Path, metavar="FILE", help="never touch what is white here")
    _add_loop(parser)
    _add_regions(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print the plan and write the overlay, paint nothing"
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="png",
        help="of the result; jpeg alone loses pixels (default: png)",
    )
    add_run_id(parser, "pictures")
    add_generator(parser)
    add_memory(parser)
    add_accept_changes(parser)
    add_review(parser)
    add_no_prefect(parser)
    add_profile(parser)
    add_out(parser, "out/RUN")
    add_common(parser)


def _add_loop(parser: argparse.ArgumentParser) -> None:
    whole: dict[str, Any] = {"type": int, "metavar": "N"}
    parser.add_argument("--rounds", **whole, help="rounds at most (default: the profile's)")
    parser.add_argument(
        "--candidates", **whole, help="paintings of each region, of which the best or none stays"
    )
    parser.add_argument("--tries", **whole, help="rounds after which a region is given up")
    parser.add_argument(
        "--strength", type=float, metavar="X", help="how much is given up for noise, above 0 up to 1"
    )
    parser.add_argument("--steps", **whole, help="sampling steps (default: the profile's)")
    parser.add_argument("--guidance-scale", type=float, metavar="X", help="default: the profile's")
    add_seed(parser, "picture", "result")
    parser.add_argument("--batch-size", **whole, help="crops painted at once (default: the profile's)")


def _add_regions(parser: argparse.ArgumentParser) -> None:
    regions = parser.add_argument_group("which regions", "defaults are the profile's")
    regions.add_argument(
        "--min-confidence", type=float, metavar="X", help="leave alone what is less sure, 0..1"
    )
    regions.add_argument("--min-area", type=float, metavar="X", help="smallest share of the picture, 0..1")
    regions.add_argument("--max-area", type=float, metavar="X", help="largest share of the picture, 0..1")
    regions.add_argument(
        "--top-k", type=int, metavar="N", help="regions per picture and round; of a --mask every part"
    )
    regions.add_argument(
        "--dilate", dest="dilate_pixels", type=int, metavar="PX", help="pixels by which a region grows"
    )
    regions.add_argument(
        "--feather", dest="feather_pixels", type=int, metavar="PX", help="pixels of soft edge beyond that"
    )
    regions.add_argument(
        "--context", type=float, metavar="X", help="what the painter sees around a region, in its own sizes"
    )


REGION_OPTIONS = (
    "min_confidence",
    "min_area",
    "max_area",
    "top_k",
    "dilate_pixels",
    "feather_pixels",
    "context",
)
LOOP_OPTIONS = ("rounds", "candidates", "tries", "strength", "steps", "guidance_scale", "batch_size")


def inpaint(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion inpaint`."""
    from flows.files.output import output_folder
    from flows.jobs import inpainting as inpainting_jobs
    from flows.terminal.console import note

    checked_approval(arguments)
    requests = inpainting_jobs.requests_for(
        arguments.inputs, arguments.prompt, checked_seed(arguments.seed), arguments.mask, arguments.protect
    )
    run_id = run_id_of(arguments, [request.path.stem for request in requests])
    job = _job(arguments, requests, run_id)
    usable, failures = inpainting_jobs.readable(job, arguments.format, note)
    if not usable.cases and len({reason for _, reason in failures}) == 1:
        raise InvalidInput(failures[0][1])  # what is wrong with every picture is a plain error
    for path, reason in failures:
        print(f"left out: {reason if path in reason else f'{path}: {reason}'}", file=sys.stderr)
    if not usable.cases:
        raise InvalidInput(f"none of {len(job.cases)} pictures can be used")
    try:
        with output_folder(arguments.out or DEFAULT_OUT / run_id) as folder:
            if arguments.dry_run:
                _preview(usable, folder, arguments.json, failures)
            else:
                _present(usable, work(usable, arguments, folder), folder, arguments, failures)
    except KeyboardInterrupt:
        if arguments.dry_run:
            raise
        return interrupted(words, run_id, arguments.run_id is None)
    if failures:
        names = ", ".join(Path(path).name for path, _ in failures)
        raise InvalidInput(f"{len(failures)} of {len(job.cases)} pictures could not be used: {names}")
    return 0


def _job(arguments: argparse.Namespace, requests: Sequence[Any], run_id: str) -> InpaintingJob:
    from flows.jobs import inpainting as inpainting_jobs
    from flows.jobs import regeneration as jobs
    from flows.profiles.loading import changed_generator, load_profile
    from flows.settings import MAX_BATCH, MAX_CANDIDATES, MAX_ROUNDS

    limits = {"rounds": MAX_ROUNDS, "tries": MAX_ROUNDS, "candidates": MAX_CANDIDATES, "steps": 1000}
    for name, most in {**limits, "batch_size": MAX_BATCH}.items():
        jobs.check_count(name.replace("_", "-"), getattr(arguments, name), most)
    if arguments.guidance_scale is not None and not 0 <= arguments.guidance_scale <= 100:
        raise InvalidInput(f"--guidance-scale is {arguments.guidance_scale}: choose a number from 0 to 100")
    given = arguments.generator
    painter = {} if given is None else {"path": generator_path(given)}
    try:
        return inpainting_jobs.make_job(
            arguments.profile,
            changed_generator(load_profile(arguments.profile), painter),
            requests,
            run_id,
            regions={name: getattr(arguments, name) for name in REGION_OPTIONS},
            painter=painter,
            memory=arguments.memory,
            accept_changes=arguments.accept_changes,
            **{name: getattr(arguments, name) for name in LOOP_OPTIONS},
        )
    except UnusableSetting as error:
        typed = [x for x in (*REGION_OPTIONS, *LOOP_OPTIONS) if getattr(arguments, x) is not None]
        raise error.called({name: _option(name) for name in typed}) from error


def _option(setting: str) -> str:
    """What a person types for a setting."""
    return "--" + setting.removesuffix("_pixels").replace("_", "-")


def tools_of(job: InpaintingJob) -> Any:
    """The profile's tools."""
    with waiting("loading the models"):
        from flows.tools import inpainting_tools

        return inpainting_tools(job)


def work(job: InpaintingJob, arguments: argparse.Namespace, folder: Path) -> list[Run]:
    """Build the tools and run the loop, with Prefect or without it; `folder` is for what is asked about."""
    from flows.jobs.inpainting import execute
    from flows.terminal.inpainting import share_done
    from flows.terminal.progress import RunProgress

    return run_loop(job, arguments, folder, RunProgress(job.rounds, share_done), tools_of, execute, _in_flow)


def _in_flow() -> Callable[..., list[Run]]:
    from flows.inpainting import inpaint_with_prefect

    return inpaint_with_prefect


def _preview(job: InpaintingJob, folder: Path, as_json: bool, failures: Sequence[tuple[str, str]]) -> None:
    from controller.inpainting import preview
    from controller.steps import chunks
    from flows.files.inpainting_output import write_preview
    from flows.jobs.inpainting import LOCKSTEP, open_case, unique_stems
    from flows.terminal.console import note
    from flows.terminal.inpainting import print_preview

    tools = tools_of(job)
    stems = unique_stems([Path(case.path) for case in job.cases])
    written = []
    for part in chunks(list(zip(job.cases, stems, strict=True)), LOCKSTEP):
        opened = [open_case(case) for case, _ in part]
        with waiting("looking at the pictures"):
            plans = preview([item.for_loop() for item in opened], tools, job.settings())
        for item, plan, (_, stem) in zip(opened, plans, part, strict=True):
            written.append(write_preview(plan, item.file, folder, stem))
            for line in item.file.notes:
                note(line)
            if not as_json:
                print_preview(plan, item.file.path.name, item.file.image.shape)
                print(f"overlay: {written[-1]['overlay']}")
    if as_json:
        print(json.dumps({"runs": written, **_failed(failures)}, ensure_ascii=False))


def _failed(failures: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The JSON's part about pictures that were left out, if there are any."""
    return {"failed": [{"input": path, "reason": reason} for path, reason in failures]} if failures else {}


def _present(
    job: InpaintingJob,
    runs: Sequence[Run],
    folder: Path,
    arguments: argparse.Namespace,
    failures: Sequence[tuple[str, str]],
) -> None:
    from flows.commands.presenting import present_repairs
    from flows.files.picture_files import read_picture
    from flows.jobs.inpainting import unique_stems

    paths = [Path(case.path) for case in job.cases]
    sources = (read_picture(path) for path in paths)
    present_repairs(
        runs,
        sources,
        unique_stems(paths),
        folder,
        arguments.json,
        arguments.format,
        _failed(failures),
    )

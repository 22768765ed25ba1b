"""`legion resume`: take a run up again by its id alone. `legion replay`: do it anew and compare it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput, LegionError
from flows.commands.options import DEFAULT_OUT, add_common, add_out
from flows.commands.presenting import present
from flows.commands.running import add_accept_changes, add_no_prefect, add_review, checked_approval

if TYPE_CHECKING:
    from contracts.records import Run
    from controller.reviewing import Reviewer
    from memory_bank import SqlMemoryBank


def add(commands: Any) -> None:
    """Register both commands."""
    parser = commands.add_parser("resume", help="take an interrupted run up again")
    parser.set_defaults(handler=resume)
    parser.add_argument("run", metavar="RUN", help="the run's id, from legion runs")
    add_accept_changes(parser)
    add_review(parser)
    add_no_prefect(parser)
    add_out(parser, "out/RUN")
    add_common(parser)

    parser = commands.add_parser("replay", help="do a run anew and compare every picture")
    parser.set_defaults(handler=replay)
    parser.add_argument("run", metavar="RUN", help="the run's id, from legion runs")
    add_common(parser)


def resume(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion resume`."""
    from dataclasses import replace

    from flows.files.output import prepare_folder
    from flows.jobs.regeneration import check_run_id
    from memory_bank import open_memory_bank

    checked_approval(arguments)
    bank = open_memory_bank()
    run = bank.outline(check_run_id(arguments.run))
    folder = prepare_folder(arguments.out or DEFAULT_OUT / run.run_id)
    if run.status != "finished" or bank.lost(run.run_id):
        kind, job = asked_for(bank, run.run_id)
        _command(kind).work(replace(job, accept_changes=arguments.accept_changes), arguments, folder)
    return present([bank.load(run.run_id)], folder, arguments.json)


def replay(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion replay`. Exit code 1 if anything came out otherwise."""
    import tempfile
    from dataclasses import replace

    from flows.jobs.approval import recorded
    from flows.jobs.regeneration import check_run_id
    from flows.jobs.replaying import compare, first_difference
    from memory_bank import open_memory_bank

    bank = open_memory_bank()
    before = bank.outline(check_run_id(arguments.run))
    if before.status != "finished":
        raise InvalidInput(f"run {before.run_id} is {before.status}: legion resume {before.run_id} first")
    if lost := bank.lost(before.run_id):
        raise InvalidInput(
            f"run {before.run_id} lost {len(lost)} of its files: legion resume {before.run_id} "
            "makes them anew"
        )
    before = bank.load(before.run_id)
    kind, job = asked_for(bank, before.run_id)
    with tempfile.TemporaryDirectory() as folder:
        scratch = open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store")
        scratch.keep_recollections(before.run_id, bank.recollections(before.run_id))
        (again,) = _execute(kind, replace(job, cases=job.cases[:1]), scratch, recorded(before))
        scratch.close()
    rows = compare(before, again)
    same = all(row.same for row in rows)
    if arguments.json:
        values = [row._asdict() for row in rows]
        first = None if same else next(row.step for row in rows if not row.same)
        found = {"run_id": before.run_id, "same": same, "first_difference": first, "steps": values}
        print(json.dumps(found, ensure_ascii=False))
    else:
        from flows.terminal.console import print_replay

        print_replay(rows)
    if not same:
        why = (
            "its settings were changed half way, which is not done anew"
            if before.earlier_settings
            else "other models, versions or machine than then"
        )
        raise LegionError(f"run {before.run_id} came out otherwise, {first_difference(rows)} ({why})")
    return 0


def asked_for(bank: SqlMemoryBank, run_id: str) -> tuple[str, Any]:
    """The run's kind and its job, a `Job` or an `InpaintingJob`. Raises InvalidInput if it was not kept."""
    kept = bank.job(run_id)
    if kept is None:
        raise InvalidInput(
            f"what run {run_id} was asked for is not known: repeat its command with --run-id {run_id}"
        )
    from flows.jobs.inpainting import InpaintingJob
    from flows.jobs.regeneration import Job

    of: Any = InpaintingJob if kept["kind"] == "inpainting" else Job
    try:
        return kept["kind"], of.from_parameters(kept["job"])
    except (KeyError, TypeError) as error:
        raise InvalidInput(
            f"what run {run_id} was asked for is not understood by this version: repeat its command with "
            f"--run-id {run_id}"
        ) from error


def _command(kind: str) -> Any:
    """The command that works on jobs of that kind."""
    from flows.commands import inpaint, regenerate

    return inpaint if kind == "inpainting" else regenerate


def _execute(kind: str, job: Any, bank: SqlMemoryBank, reviewer: Reviewer) -> list[Run]:
    """The job's runs, done in this process and kept in `bank`."""
    from flows.jobs import inpainting, regeneration

    jobs: Any = inpainting if kind == "inpainting" else regeneration
    return jobs.execute(job, _command(kind).tools_of(job), bank, reviewer=reviewer)

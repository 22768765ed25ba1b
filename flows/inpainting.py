"""The Prefect flow around the inpainting loop: the same loop, each of its steps a task one can watch.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from contracts.records import Run
from controller.inpainting import KIND
from flows.jobs.approval import ALONE, Approval, Audience
from flows.jobs.inpainting import InpaintingJob, execute
from flows.jobs.parameters import how_many, told
from flows.regeneration import Watch, current_audience, handed, in_front_of, leave, reviewer_for
from flows.serving.cancelling import say_cancelled
from flows.serving.showing import Showing, flow_name
from flows.terminal.inpainting import share_done
from flows.terminal.wording import clipped, count

NAME = "inpaint"


def inpaint_with_prefect(job: InpaintingJob, audience: Audience = ALONE) -> list[Run]:
    """Run a job as a flow and return its runs, as they stand in the memory bank."""
    with in_front_of(audience, job) as front:
        inpainting(told(job.as_parameters(), "cases"), audience.approval.as_parameters())
    return front.runs


def _name_from_context() -> str:
    from prefect.runtime import flow_run

    job = flow_run.parameters["job"]
    return flow_name(NAME, Path(job["cases"][0]["path"]).name, how_many(job, "cases"), "picture")


@flow(
    name=NAME,
    flow_run_name=_name_from_context,
    persist_result=False,
    validate_parameters=False,
    on_cancellation=[say_cancelled],
)
def inpainting(job: dict[str, Any], approval: dict[str, Any]) -> None:
    """Diagnose, plan, paint and judge, region by region, until nothing is left to repair.

    `job` is what Prefect is told of the front's `flows.jobs.inpainting.InpaintingJob`, `approval` are the
    parameters of an `Approval`. Models are built once per process; the bank is the record.
    """
    run_inpainting(handed(), Approval(**approval))


def run_inpainting(job: InpaintingJob, approval: Approval) -> None:
    """What the flow does, in whichever flow it is called."""
    from flows.tools import inpainting_tools
    from memory_bank import open_memory_bank

    bank = open_memory_bank()
    run_ids = [case.run_id for case in job.cases]
    showing = Showing(job.profile, KIND, subject_of(job), job.rounds, run_ids, bank, share_done)
    with Watch(showing, current_audience().listener) as watch:
        tools = inpainting_tools(job)
        asked = reviewer_for(approval, bank, watch)
        runs = execute(job, tools, bank, run_step=watch.run_step, on_event=watch.listen, reviewer=asked)
        showing.finish(runs)
    leave(runs)


def subject_of(job: InpaintingJob) -> str:
    """What a job is about, for the names of its tasks."""
    if len(job.cases) == 1:
        return clipped(Path(job.cases[0].path).name, 40)
    return count(len(job.cases), "picture")

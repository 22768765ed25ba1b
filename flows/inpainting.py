"""The Prefect flow around the inpainting loop: the same loop, each of its steps a task one can watch.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from contracts.records import Run
from controller.steps import ignore
from flows.jobs.inpainting import InpaintingJob, execute
from flows.jobs.regeneration import Listener
from flows.regeneration import Watch, current_listener, listening, publish_galleries
from flows.terminal.inpainting import share_done


def inpaint_with_prefect(job: InpaintingJob, on_event: Listener = ignore) -> list[Run]:
    """Run a job as a flow and return its runs, as they stand in the memory bank."""
    from memory_bank import open_memory_bank

    with listening(on_event):
        inpainting(job.as_parameters())
    bank = open_memory_bank()
    return [bank.load(case.run_id) for case in job.cases]


def flow_name(parameters: dict[str, Any]) -> str:
    """`cat.png · RUN` for one picture, `16 pictures · RUN` for many."""
    cases = parameters["job"]["cases"]
    words = Path(cases[0]["path"]).name if len(cases) == 1 else f"{len(cases)} pictures"
    return f"{words} · {cases[0]['run_id']}"


def _name_from_context() -> str:
    from prefect.runtime import flow_run

    return flow_name(flow_run.parameters)


@flow(name="inpainting", flow_run_name=_name_from_context, persist_result=False, validate_parameters=False)
def inpainting(job: dict[str, Any]) -> None:
    """Diagnose, plan, paint and judge, region by region, until nothing is left to repair.

    `job` is `flows.jobs.inpainting.InpaintingJob.as_parameters()`. Models are built once per process; the
    bank is the record.
    """
    from flows.assemble import inpainting_tools
    from memory_bank import open_memory_bank

    asked = InpaintingJob.from_parameters(job)
    bank = open_memory_bank()
    watch = Watch(asked.rounds, current_listener(), share_done)
    tools = inpainting_tools(asked.profile, asked.steps, asked.guidance_scale, **asked.painter)
    runs = execute(asked, tools, bank, run_step=watch.run_step, on_event=watch.listen)
    publish_galleries(runs, bank)

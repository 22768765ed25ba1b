"""The Prefect flow around the regeneration loop: the same loop, each of its steps a task one can watch.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from uuid import UUID

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from contracts.errors import LegionError, RemoteError
from contracts.protocols import MemoryBank
from contracts.records import Run
from flows.gallery import gallery, gallery_key
from flows.jobs import Job, Listener, execute, ignore

RETRY_DELAYS = [2, 10]
"""Seconds before a step that failed at a remote server is tried again."""

_listener: ContextVar[Listener] = ContextVar("listener", default=ignore)


def start_server() -> None:
    """Reach Prefect's API, starting its temporary server if there is no other. Raises LegionError."""
    try:
        with get_client(sync_client=True) as client:
            problem = client.api_healthcheck()
    except Exception as error:  # whatever keeps the server from starting, the remedy is the same
        problem = error
    if problem is not None:
        cause = " ".join(str(problem).split())[:200] or type(problem).__name__
        raise LegionError(f"Prefect's server cannot be reached ({cause}): add --no-prefect to run without it")


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Events of the flows started inside go to `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def regenerate_with_prefect(job: Job, on_event: Listener = ignore) -> list[Run]:
    """Run a job as a flow and return its runs, as they stand in the memory bank."""
    from memory_bank import open_memory_bank

    with listening(on_event):
        regeneration(job.as_parameters())
    bank = open_memory_bank()
    return [bank.load(case.run_id) for case in job.cases]


def flow_name(parameters: dict[str, Any]) -> str:
    """`red cone ...` for one prompt, `16 prompts` for many."""
    cases = parameters["job"]["cases"]
    return cases[0]["run_id"] if len(cases) == 1 else f"{len(cases)} prompts · {cases[0]['run_id']}"


def _name_from_context() -> str:
    from prefect.runtime import flow_run

    return flow_name(flow_run.parameters)


@flow(name="regeneration", flow_run_name=_name_from_context, persist_result=False, validate_parameters=False)
def regeneration(job: dict[str, Any]) -> None:
    """Paint, diagnose, score and revise until the pictures are clean or the rounds are used up.

    `job` is `flows.jobs.Job.as_parameters()`. Models are built once per process; the bank is the record.
    """
    from flows.assemble import regeneration_tools
    from memory_bank import open_memory_bank

    asked = Job.from_parameters(job)
    bank = open_memory_bank()
    runs = execute(
        asked, regeneration_tools(asked.profile), bank, run_step=run_as_task, on_event=_with_progress(asked)
    )
    publish_galleries(runs, bank)


def run_as_task(label: str, work: Callable[[], None]) -> None:
    """Do one step as a Prefect task named after it, such as `paint · round 2 · 16 pictures`.

    The step keeps its result in the memory bank; the task returns nothing, caches nothing, and is tried again
    only after a RemoteError.
    """
    kind = label.split("·")[0].strip()
    step = task(
        name=kind,
        task_run_name=lambda: label,
        tags=["legion", kind.split()[0]],
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=list(RETRY_DELAYS),
        retry_condition_fn=worth_a_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
        log_prints=False,
    )(_as_step(work))
    step()


def worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    """True if the step failed at a remote server."""
    return isinstance(state.result(raise_on_failure=False), RemoteError)


def publish_galleries(runs: list[Run], bank: MemoryBank) -> None:
    """One artifact per run. A gallery that cannot be kept is a warning: the run itself is safe."""
    for run in runs:
        try:
            create_markdown_artifact(
                markdown=gallery(run, bank.image), key=gallery_key(run.run_id), description=run.prompt
            )
        except Exception as error:
            logging.getLogger(__name__).warning("no gallery for run %s: %s", run.run_id, error)


def _as_step(work: Callable[[], None]) -> Callable[[], None]:
    def step() -> None:
        work()

    return step


def _with_progress(job: Job) -> Listener:
    """The caller's listener, plus a progress artifact that counts rounds."""
    listener = _listener.get()
    artifact = cast(UUID, create_progress_artifact(progress=0.0, description="rounds done"))
    done = 0

    def listen(event: Any) -> None:
        nonlocal done
        listener(event)
        if type(event).__name__ == "RoundFinished":
            done += 1
            update_progress_artifact(
                artifact, progress=min(100.0, 100.0 * done / (job.rounds * len(job.cases)))
            )

    return listen

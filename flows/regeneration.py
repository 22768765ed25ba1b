"""The Prefect flow around the regeneration loop: the same loop, each of its steps a task one can watch.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import logging
import signal
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
from controller.steps import Event, StepFinished, StepStarted, ignore
from flows.jobs.regeneration import Job, Listener, execute
from flows.pages.gallery import gallery, gallery_key
from flows.terminal.console import share_done
from flows.terminal.wording import step_words, title_of

RETRY_DELAYS = [2, 10]
"""Seconds before a step that failed at a remote server is tried again."""

_listener: ContextVar[Listener] = ContextVar("listener", default=ignore)


def start_server() -> None:
    """Reach Prefect's API, starting its temporary server if there is no other. Raises LegionError.

    Run this in a thread of its own: the server process inherits that thread's blocked signals, so that Ctrl-C
    stops the loop first and the server can still be told about it.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
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

    `job` is `flows.jobs.regeneration.Job.as_parameters()`. Models are built once per process; the bank is
    the record.
    """
    from flows import assemble
    from memory_bank import open_memory_bank

    asked = Job.from_parameters(job)
    bank = open_memory_bank()
    watch = Watch(asked.rounds, _listener.get())
    tools = assemble.regeneration_tools(asked.profile, **asked.painter)
    if asked.modifier:
        tools = assemble.with_modifier(tools, asked.profile, asked.modifier)
    runs = execute(asked, tools, bank, run_step=watch.run_step, on_event=watch.listen)
    publish_galleries(runs, bank)


class Watch:
    """Names the tasks after the loop's events and keeps a progress artifact up to date."""

    def __init__(
        self, rounds: int, listener: Listener, share: Callable[[StepFinished, int], float] = share_done
    ) -> None:
        """`share` says how much of a job of so many rounds is behind an event, 0..1."""
        self._rounds, self._listener, self._share = rounds, listener, share
        self._step: StepStarted | None = None
        self._artifact = cast(UUID, create_progress_artifact(progress=0.0, description="share of all rounds"))

    def listen(self, event: Event) -> None:
        """Take an event, pass it on, and move the progress at the end of each step."""
        self._listener(event)
        if isinstance(event, StepStarted):
            self._step = event
        elif isinstance(event, StepFinished) and event.done == event.total:
            update_progress_artifact(self._artifact, progress=100.0 * self._share(event, self._rounds))

    def run_step(self, label: str, work: Callable[[], None]) -> None:
        """A StepRunner: one Prefect task per step, `paint` with the name `paint · round 2 · 16 pictures`."""
        if self._step is None:
            run_as_task(label, label, work)
        else:
            step = self._step
            run_as_task(step.step, step_words(step.step, step.round, step.total, step.noun), work)


def run_as_task(name: str, run_name: str, work: Callable[[], None]) -> None:
    """Do one step as a Prefect task.

    The step keeps its result in the memory bank; the task returns nothing, caches nothing, and is tried again
    only after a RemoteError.
    """
    step = task(
        name=name,
        task_run_name=lambda: run_name,
        tags=["legion", name],
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=list(RETRY_DELAYS),
        retry_condition_fn=worth_a_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(_as_step(work))
    step()


def worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    """True if the step failed at a remote server."""
    return isinstance(state.result(raise_on_failure=False), RemoteError)


def current_listener() -> Listener:
    """Where the events of the flow that runs here go."""
    return _listener.get()


def publish_galleries(runs: list[Run], bank: MemoryBank) -> None:
    """One artifact per run. A gallery that cannot be kept is a warning: the run itself is safe."""
    for run in runs:
        try:
            create_markdown_artifact(
                markdown=gallery(run, bank.image), key=gallery_key(run.run_id), description=title_of(run)
            )
        except Exception as error:
            logging.getLogger(__name__).warning("no gallery for run %s: %s", run.run_id, error)


def _as_step(work: Callable[[], None]) -> Callable[[], None]:
    def step() -> None:
        work()

    return step

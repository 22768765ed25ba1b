"""The Prefect flow around the regeneration loop: the same loop, each of its steps a task one can watch.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.context import SettingsContext, get_settings_context
from prefect.settings import get_current_settings

from contracts.errors import WORTH_A_RETRY, LegionError
from contracts.protocols import MemoryBank
from contracts.records import Review, Run, Verdict
from controller.regeneration import KIND
from controller.reviewing import Reviewer
from controller.steps import Event, StepStarted
from flows.jobs.approval import ALONE, Approval, Ask, Audience, reviewer
from flows.jobs.parameters import how_many, told
from flows.jobs.regeneration import Job, execute
from flows.serving.cancelling import Cancelling, RunCancelled, say_cancelled
from flows.serving.reviewing import ask_on_page
from flows.serving.showing import Showing, flow_name
from flows.terminal.progress import share_done
from flows.terminal.wording import clipped, count
from flows.workers.slots import round_slot

NAME = "regenerate"
RETRY_DELAYS = [2, 10]
"""Seconds before a step that failed at a server is tried again."""


@dataclass
class Front:
    """Somebody in front of a flow, with what it is to do, and what the flow leaves there."""

    audience: Audience
    job: Any
    """The whole of it: Prefect's server is told the beginning of what is too long for it."""
    runs: list[Run] = field(default_factory=list)
    """What the flow returns, as it stands in the memory bank. Prefect keeps no results."""
    afterwards: ExitStack = field(default_factory=ExitStack)
    """What is waited for once the flow has ended."""


_front: ContextVar[Front | None] = ContextVar("front", default=None)


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
def in_front_of(audience: Audience, job: Any) -> Iterator[Front]:
    """The flow started inside has this audience, and works on this job.

    They send no heartbeats, by which an automation would notice a crash: whoever sits in front of the process
    sees it, and Prefect's heart makes each run wait up to a second for its last beat. A frequency in the
    environment or in Prefect's settings is kept. A flow that is cancelled on Prefect's page ends as after
    Ctrl-C, with KeyboardInterrupt.
    """
    front = Front(audience, job)
    token = _front.set(front)
    try:
        with front.afterwards, nullcontext() if heartbeat_wanted() else _without_heartbeat():
            yield front
    except RunCancelled as cancelled:
        if audience.say is not None:
            audience.say(str(cancelled))
        raise KeyboardInterrupt from cancelled
    finally:
        _front.reset(token)


def _without_heartbeat() -> SettingsContext:
    """Prefect's settings but for that one. Its `temporary_settings` reads and checks all of them anew, which
    takes longer than creating the run."""
    now = get_settings_context()
    flows = now.settings.flows.model_copy(update={"heartbeat_frequency": None})
    return SettingsContext(profile=now.profile, settings=now.settings.model_copy(update={"flows": flows}))


def heartbeat_wanted() -> bool:
    """Did somebody set how often flow runs say that they are alive?"""
    return "heartbeat_frequency" in get_current_settings().flows.model_fields_set


def regenerate_with_prefect(job: Job, audience: Audience = ALONE) -> list[Run]:
    """Run a job as a flow and return its runs, as they stand in the memory bank."""
    with in_front_of(audience, job) as front:
        regeneration(told(job.as_parameters(), "cases"), audience.approval.as_parameters())
    return front.runs


def _name_from_context() -> str:
    from prefect.runtime import flow_run

    job = flow_run.parameters["job"]
    return flow_name(NAME, job["cases"][0]["prompt"], how_many(job, "cases"), "prompt")


@flow(
    name=NAME,
    flow_run_name=_name_from_context,
    persist_result=False,
    validate_parameters=False,
    on_cancellation=[say_cancelled],
)
def regeneration(job: dict[str, Any], approval: dict[str, Any]) -> None:
    """Paint, diagnose, score and revise until the pictures are clean or the rounds are used up.

    `job` is what Prefect is told of the front's `flows.jobs.regeneration.Job`, `approval` are the parameters
    of an `Approval`. Models are built once per process; the bank is the record.
    """
    run_regeneration(handed(), Approval(**approval))


def run_regeneration(job: Job, approval: Approval) -> None:
    """What the flow does, in whichever flow it is called."""
    from flows.tools import regeneration_tools
    from memory_bank import open_memory_bank

    bank = open_memory_bank()
    showing = Showing(
        job.profile, KIND, subject_of(job), job.rounds, [case.run_id for case in job.cases], bank, share_done
    )
    with Watch(showing, current_audience().listener) as watch:
        tools = regeneration_tools(job)
        asked = reviewer_for(approval, bank, watch)
        runs = execute(job, tools, bank, run_step=watch.run_step, on_event=watch.listen, reviewer=asked)
        showing.finish(runs)
    leave(runs)


def reviewer_for(approval: Approval, bank: MemoryBank, watch: Watch) -> Reviewer | None:
    """Asks a person about rounds, the GPU given back meanwhile; None where nobody is asked."""
    if approval.review == "none":
        return None
    audience = current_audience()
    ask = audience.ask or ask_on_page(approval, bank, audience.say)
    return reviewer(approval, watch.waiting(ask), watch.slot.release)


def subject_of(job: Job) -> str:
    """What a job is about, for the names of its tasks."""
    return clipped(job.cases[0].prompt, 40) if len(job.cases) == 1 else count(len(job.cases), "prompt")


class Watch:
    """Names the tasks after the loop's events, and passes these on to the pages and to the listener.

    Where the machine's GPU has a name, its slot is held round by round, up to the end of the context.
    """

    def __init__(self, showing: Showing, listener: Callable[[Event], None]) -> None:
        self._showing, self._listener = showing, listener
        self._step: StepStarted | None = None
        self._cancelling = Cancelling(showing.watch)
        self.slot = round_slot()

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_error: object) -> None:
        self.slot.release()
        front = _front.get()
        if front is None:
            self._showing.close()
        else:  # the pages are sent while the flow says that it has ended
            self._showing.end()
            front.afterwards.callback(self._showing.close)

    def listen(self, event: Event) -> None:
        """Take an event and pass it on. Raises RunCancelled before a step."""
        self._listener(event)
        if isinstance(event, StepStarted):
            self._cancelling.check()
            self._step = event
        self.slot.listen(event)
        self._showing.listen(event)

    def waiting(self, ask: Ask) -> Ask:
        """The same question; the time that a person takes is none of the step's."""

        def ask_and_wait(run: Run, proposed: Verdict, problem: str) -> Review | None:
            begun = time.monotonic()
            try:
                return ask(run, proposed, problem)
            finally:
                self._showing.waited(time.monotonic() - begun)

        return ask_and_wait

    def run_step(self, label: str, work: Callable[[], None]) -> None:
        """A StepRunner: one Prefect task per step, named `paint · a red mug · round 2/3`."""
        if self._step is None:
            run_as_task(label, label, work)
        else:
            run_as_task(self._step.step, self._showing.step_name(self._step), work)


def run_as_task(name: str, run_name: str, work: Callable[[], None]) -> None:
    """Do one step as a Prefect task.

    The step keeps its result in the memory bank; the task returns nothing, caches nothing, and is tried again
    only after an error that may pass. It has no tags: for each tag Prefect asks the server for a slot before
    the task begins, and a busy SQLite makes it wait two seconds for the answer. The flow run has them.
    """
    step = task(
        name=name,
        task_run_name=lambda: run_name,
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=list(RETRY_DELAYS),
        retry_condition_fn=worth_a_retry,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(_as_step(work))
    step()


def worth_a_retry(_task: Any, _run: Any, state: Any) -> bool:
    """True if the step failed at a server, a model's or the memory bank's, that may be back soon."""
    return isinstance(state.result(raise_on_failure=False), WORTH_A_RETRY)


def handed() -> Any:
    """The job of the flow that runs here. Raises LegionError in a flow that nobody is in front of."""
    front = _front.get()
    if front is None:
        raise LegionError("this flow is started by a command, which hands it its job")
    return front.job


def current_audience() -> Audience:
    """Who sits in front of the flow that runs here."""
    front = _front.get()
    return ALONE if front is None else front.audience


def leave(runs: Sequence[Run]) -> None:
    """Hand a flow's runs to whoever sits in front of it."""
    front = _front.get()
    if front is not None:
        front.runs = list(runs)


def _as_step(work: Callable[[], None]) -> Callable[[], None]:
    def step() -> None:
        work()

    return step

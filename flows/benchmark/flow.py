"""The Prefect flow around a benchmark: each share a task, spread over threads, Dask or Ray; its progress,
tables and gallery on Prefect's pages.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from prefect import flow, get_run_logger, task, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from contracts.errors import InvalidInput, LegionError, ModelError
from controller.steps import Event
from flows.benchmark import running
from flows.benchmark.reporting import Reported, report
from flows.benchmark.results import ArmSaid
from flows.benchmark.running import Part, Plan, RunShares
from flows.jobs.approval import Audience
from flows.jobs.parameters import how_many, told
from flows.regeneration import RETRY_DELAYS, current_audience, handed, in_front_of, worth_a_retry
from flows.serving.board import Page, board_here, show_progress
from flows.serving.cancelling import Cancelling, check_task, say_cancelled
from flows.terminal.wording import count


class ShareEvent(NamedTuple):
    """An event of a loop, with the share and the arm it works for."""

    share: int
    arm: str
    event: Event


def benchmark_with_prefect(
    plan: Plan,
    said: Sequence[ArmSaid],
    facts: Mapping[str, Any],
    folder: Path,
    runner: str,
    workers: int,
    on_event: Callable[[int, str, Event], None] = lambda *_: None,
    say: Callable[[str], None] | None = None,
) -> Reported:
    """Run a prepared plan as a flow; its report, as it was written to `folder`. Events come from threads of
    this process only; `say` hears that it was cancelled on Prefect's page. Raises InvalidInput if the runner
    is not installed, ModelError if it breaks down."""
    spread = benchmark.with_options(task_runner=task_runner(runner, workers))
    with in_front_of(Audience(lambda event: on_event(*event), say=say), plan):
        try:
            shown = told(plan.as_parameters(), "prompts")
            return spread(shown, [asdict(arm) for arm in said], dict(facts), str(folder))
        except Exception as error:
            if runner == "threads" or isinstance(error, LegionError):
                raise
            said_by_runner = " ".join(str(error).split())[:200]
            raise ModelError(
                f"the runner '{runner}' broke down ({type(error).__name__}: {said_by_runner}): the same "
                "command goes on where it stood, with --runner threads in this process alone"
            ) from error


def task_runner(name: str, workers: int) -> TaskRunner[Any]:
    """What works on shares: `workers` threads of this process, or as many processes of their own. Raises
    InvalidInput."""
    try:
        if name == "dask":
            from prefect_dask import DaskTaskRunner

            return DaskTaskRunner(cluster_kwargs={"n_workers": workers, "threads_per_worker": 1})
        if name == "ray":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
            from prefect_ray import RayTaskRunner

            return RayTaskRunner(init_kwargs={"num_cpus": workers, "include_dashboard": False})
    except ImportError as error:
        raise InvalidInput(
            f"the runner '{name}' is not installed ({error.name} is missing): pip install '.[{name}]'"
        ) from error
    return ThreadPoolTaskRunner(max_workers=workers)


@task(
    name="share",
    task_run_name="share {number}",
    retries=len(RETRY_DELAYS),
    retry_delay_seconds=list(RETRY_DELAYS),
    retry_condition_fn=worth_a_retry,
    cache_policy=NO_CACHE,
    persist_result=False,
)
def share(plan: dict[str, Any], number: int) -> Part | None:
    """All arms for one share of the cases; None if another process holds it. The memory bank has the rest."""
    listener = current_audience().listener

    def hear(arm: str, event: Event) -> None:
        check_task()
        listener(ShareEvent(number, arm, event))

    return running.work_on(Plan.from_parameters(plan), number, hear)


def _name_from_context() -> str:
    from prefect.runtime import flow_run

    return f"benchmark · {_subject(flow_run.parameters['plan'])}"


def _subject(plan: Mapping[str, Any]) -> str:
    return f"{count(how_many(plan, 'prompts'), 'prompt')} · {count(len(plan['arms']), 'arm')}"


@flow(
    name="benchmark",
    flow_run_name=_name_from_context,
    persist_result=False,
    validate_parameters=False,
    on_cancellation=[say_cancelled],
)
def benchmark(
    plan: dict[str, Any], said: list[dict[str, Any]], facts: dict[str, Any], folder: str
) -> Reported:
    """Work on all shares, measure, and report. `plan` is what Prefect is told of the front's."""
    arms = [ArmSaid(**arm) for arm in said]
    pages = _Pages(_subject(plan), str(facts["profile"]))
    try:
        results = running.run(handed(), arms, pages.watched(_spread), facts)
        done = report(results, Path(folder))
        pages.finish(done)
    finally:
        pages.close()
    return done


def _spread(plan: Plan, numbers: Sequence[int]) -> Iterator[tuple[int, Part | None]]:
    """Shares as tasks, side by side."""
    futures = share.map(unmapped(plan.as_parameters()), list(numbers))
    for number, future in zip(numbers, futures, strict=True):
        yield number, future.result()


class _Pages:
    """What Prefect shows of a benchmark: tags, how many shares are done, and the tables and gallery at the
    end, sent by the board's thread, which sees if a terminal's benchmark is cancelled there. Close it at the
    flow's end."""

    def __init__(self, subject: str, profile: str) -> None:
        self._subject, self._log = subject, get_run_logger()
        self._board = board_here(profile=profile, kind="benchmark")
        self._cancelling = Cancelling(self._board.watch)
        self._cancelling.tell_tasks()
        self._move(0.0)

    def watched(self, run_shares: RunShares) -> RunShares:
        """The same, and the progress bar moves with each share that is done."""

        def watching(plan: Plan, numbers: Sequence[int]) -> Iterator[tuple[int, Part | None]]:
            total = len(plan.shares)
            done = total - len(numbers)
            for number, part in run_shares(plan, numbers):
                self._cancelling.check()
                if part is not None:
                    done += 1
                    self._log.info("Share %d is done, %d of %d.", number + 1, done, total)
                    self._move(done / total)
                yield number, part

        return watching

    def finish(self, done: Reported) -> None:
        """The tables and the gallery."""
        self._board.put("the report", lambda: _pages_of(done))
        self._log.info("%s The report: %s", done.verdict, done.files["report"])

    def close(self) -> None:
        """Wait until the pages are up to date."""
        self._board.close()

    def _move(self, share: float) -> None:
        show_progress(self._board, share, f"benchmark · {self._subject}")


def _pages_of(done: Reported) -> list[Page]:
    return [
        Page("markdown", done.gallery, "Arms side by side, with intervals", "benchmark-report"),
        Page("table", done.summary, "Means of the final pictures", "benchmark-summary"),
    ]

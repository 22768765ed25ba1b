"""The thread that works the queue off. Runs with equal settings are worked on together, in lockstep.

Results do not depend on the batch, and a run that is stopped goes on where it stood, so a batch may be broken
off at any event: to cancel one of its runs, or because the server ends. What fails in a batch is tried again
alone, so that one unusable picture fails for itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from contracts.errors import WORTH_A_RETRY, LegionError
from controller.steps import Event, RoundFinished, RunFinished, StepFinished
from flows.api.notices import Notices
from flows.api.queue import Submission, SubmissionQueue
from flows.jobs.inpainting import InpaintingJob
from flows.jobs.regeneration import Job, Listener

Work = Callable[[str, Job | InpaintingJob, Listener], None]
"""Does all of a job of a kind; the bank keeps what comes of it."""

JOBS: Mapping[str, Any] = {"regeneration": Job, "inpainting": InpaintingJob}
RETRY_SECONDS = (2.0, 10.0)
"""Waits before work that failed at a server, a model's or the memory bank's, goes on."""


class Stopped(Exception):
    """Raised inside a loop to break it off at a step."""


class Runner:
    """Takes runs from the queue until it is stopped."""

    def __init__(self, queue: SubmissionQueue, notices: Notices, work: Work, batch: int) -> None:
        """At most `batch` runs are worked on together."""
        self._queue, self._notices, self._work, self._batch = queue, notices, work, batch
        self._wake, self._stop = threading.Event(), threading.Event()
        self._cancelled: set[str] = set()
        self._lock = threading.Lock()
        self._seconds = 10.0
        self._thread = threading.Thread(target=self._loop, name="legion-api-runner", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self, seconds: float) -> bool:
        """Break off at the next step and let what is unfinished wait for the next start; False if the step
        takes longer than `seconds`."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def wake(self) -> None:
        """Something new is in the queue."""
        self._wake.set()

    def cancel(self, run_id: str) -> None:
        """Break off at the next step if the run is being worked on."""
        with self._lock:
            self._cancelled.add(run_id)

    @property
    def stopping(self) -> bool:
        """Is the server about to end?"""
        return self._stop.is_set()

    @property
    def seconds_per_run(self) -> float:
        """About how long a run takes, going by the latest."""
        return self._seconds

    def _loop(self) -> None:
        unsettled: list[str] = []
        while not self._stop.is_set():
            try:
                if unsettled:
                    self._queue.put_back(unsettled)
                taken = self._queue.take(self._batch)
                unsettled = [item.run_id for item in taken]
                if taken:
                    self._do(taken)
                    unsettled = []
                    continue
            except Exception:  # the queue's file, on a full disk
                logging.getLogger(__name__).exception("the queue cannot be written; trying again")
            self._wake.wait(1.0)
            self._wake.clear()

    def _do(self, taken: Sequence[Submission]) -> None:
        ids = [item.run_id for item in taken]
        for run_id in ids:
            self._notices.add(run_id, "state", state="running")
        begun = time.monotonic()
        try:
            job = joined(taken)
            self._with_retries(lambda: self._work(taken[0].kind, job, self._listen(set(ids), job.rounds)))
        except Stopped:
            self._broken_off(ids)
        except Exception as error:
            self._failed(taken, error)
        else:
            self._seconds = (time.monotonic() - begun) / len(taken)
            self._end(ids, "finished")

    def _listen(self, ids: set[str], rounds: int) -> Listener:
        def listen(event: Event) -> None:
            if isinstance(event, StepFinished):
                self._notices.add(event.run_id, "step", step=event.step, round=event.round, rounds=rounds)
            elif isinstance(event, RoundFinished):
                self._notices.add(event.run_id, "round", round=event.round, accepted=event.accepted)
            elif isinstance(event, RunFinished):
                self._notices.add(event.run_id, "stop", round=event.round, reason=event.stop)
            if self._stop.is_set() or self._cancelled & ids:
                raise Stopped

        return listen

    def _with_retries(self, work: Callable[[], None]) -> None:
        for seconds in RETRY_SECONDS:
            try:
                return work()
            except WORTH_A_RETRY as error:
                logging.getLogger(__name__).warning("%s; trying again in %.0f s", error, seconds)
                if self._stop.wait(seconds):
                    raise Stopped from error
        return work()

    def _broken_off(self, ids: Sequence[str]) -> None:
        with self._lock:
            gone = [run_id for run_id in ids if run_id in self._cancelled]
            self._cancelled -= set(gone)
        self._queue.put_back([run_id for run_id in ids if run_id not in gone])
        self._end(gone, "cancelled")

    def _failed(self, taken: Sequence[Submission], error: Exception) -> None:
        ids = [item.run_id for item in taken]
        if len(ids) > 1:
            self._queue.put_back(ids, alone=True)
            return
        known = isinstance(error, LegionError)
        if not known:
            logging.getLogger(__name__).exception("run %s failed", ids[0])
        said = str(error) if known else f"unexpected {type(error).__name__}: the server's log has the details"
        self._end(ids, "failed", " ".join(said.split()))

    def _end(self, ids: Sequence[str], state: Any, error: str = "") -> None:
        self._queue.end(ids, state, error)
        with self._lock:
            self._cancelled -= set(ids)
        for run_id in ids:
            self._notices.add(run_id, "end", state=state, **({"error": error} if error else {}))


def joined(taken: Sequence[Submission]) -> Job | InpaintingJob:
    """One job of all their cases; their settings are equal."""
    jobs = [JOBS[item.kind].from_parameters(item.job) for item in taken]
    whole: Job | InpaintingJob = replace(jobs[0], cases=tuple(case for job in jobs for case in job.cases))
    return whole

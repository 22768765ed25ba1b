"""What Prefect's pages show of a run: names and tags, a progress bar that moves, sentences in the log, and
one gallery, one table of scores and one link to the report for each picture or prompt.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.variables import Variable

from contracts.protocols import MemoryBank
from contracts.records import Run
from controller.steps import Event, RoundFinished, RunFinished, StepFinished, StepStarted
from flows.pages.gallery import Links, artifact_key, gallery, score_rows
from flows.serving.places import image_url_given
from flows.terminal.wording import clipped, count, reason_words, title_of, verdict_words

IMAGE_URL = "legion_image_url"
"""Prefect's variable that holds the image server's address: whoever reaches the server knows it."""
LIVE_RUNS = 4
"""Up to this many runs of a job, galleries grow round by round; of more they come at the end."""
NAME_LENGTH = 60
DONE = {
    "paint": "painted",
    "diagnose": "examined",
    "score": "scored",
    "judge": "judged",
    "revise": "revised the prompt of",
    "plan": "planned the repairs of",
    "prompt": "found the words for",
    "look": "looked again at",
    "decide": "decided on",
    "close": "closed the round of",
}

Share = Callable[[StepFinished, int], float]
"""How much of a job of so many rounds is behind an event, 0..1."""


def flow_name(kind: str, subjects: Sequence[str], noun: str) -> str:
    """`regenerate · a red mug`, `regenerate · 16 prompts`."""
    words = clipped(subjects[0], NAME_LENGTH) if len(subjects) == 1 else count(len(subjects), noun)
    return f"{kind} · {words}"


def step_name(step: StepStarted, rounds: int, subject: str) -> str:
    """`paint · a red mug · round 2/3`; how many regions, where it is about them."""
    regions = f" · {count(step.total, step.noun)}" if step.noun != "picture" else ""
    return f"{step.step} · {subject} · round {step.round}/{rounds}{regions}"


def image_url() -> str | None:
    """Where pictures are shown over http: as the environment says, else as the server's variable says."""
    given = image_url_given()
    if given is not None:
        return given
    try:
        found = Variable.get(IMAGE_URL, default=None)
    except Exception:  # without an answer there are no links; the run itself does not need them
        return None
    return str(found) if found else None


class Showing:
    """Follows a job's events and keeps Prefect's pages up to date."""

    def __init__(
        self,
        profile: str,
        kind: str,
        subject: str,
        rounds: int,
        run_ids: Sequence[str],
        bank: MemoryBank,
        share: Share,
    ) -> None:
        """`subject` names the job in each task; `share` moves the progress bar."""
        self._subject, self._rounds, self._bank, self._share = subject, rounds, bank, share
        self._links = Links(image_url())
        self._live = len(run_ids) <= LIVE_RUNS
        self._artifacts: dict[str, UUID] = {}
        self._begun, self._noun = time.monotonic(), "picture"
        self._log = get_run_logger()
        self._tag([f"profile:{profile}", f"kind:{kind}"])
        self._progress = cast(UUID, create_progress_artifact(progress=0.0, description=f"{kind} · {subject}"))
        self._log.info("%s with the profile %s: %s.", count(len(run_ids), "run"), profile, ", ".join(run_ids))

    def listen(self, event: Event) -> None:
        """Take an event of the loop."""
        if isinstance(event, StepStarted):
            self._begun, self._noun = time.monotonic(), event.noun
        elif isinstance(event, StepFinished) and event.done == event.total:
            self._step_finished(event)
        elif isinstance(event, RoundFinished) and self._live:
            self._round_finished(event)
        elif isinstance(event, RunFinished) and self._live:
            self._log.info("Run %s ends after round %d: %s.", event.run_id, event.round, event.stop)

    def step_name(self, step: StepStarted) -> str:
        """The name of the step's task."""
        return step_name(step, self._rounds, self._subject)

    def finish(self, runs: Sequence[Run]) -> None:
        """Every run's gallery, table and link as they are at the end."""
        for run in runs:
            self._publish(run)
        update_progress_artifact(self._progress, progress=100.0)
        for run in runs:
            if report := self._links.report(run.run_id):
                self._log.info("The report of run %s: %s", run.run_id, report)

    def _step_finished(self, event: StepFinished) -> None:
        update_progress_artifact(self._progress, progress=100.0 * self._share(event, self._rounds))
        seconds = time.monotonic() - self._begun
        what = f"{DONE.get(event.step, event.step)} {count(event.total, self._noun)}"
        self._log.info("Round %d: %s in %.1f s.", event.round, what, seconds)

    def _round_finished(self, event: RoundFinished) -> None:
        run = self._bank.load(event.run_id)
        item = run.rounds[event.round - 1]
        self._publish(run)
        words = f"{verdict_words(run, item)} ({reason_words(item)})"
        self._log.info("Round %d of %s is %s.", event.round, clipped(title_of(run), NAME_LENGTH), words)
        if item.revision is not None:
            self._log.info("The next prompt is: %s", item.revision.prompt)

    def _publish(self, run: Run) -> None:
        """A page that cannot be kept is a warning: the run itself is safe."""
        try:
            title = title_of(run)
            self._keep("gallery", run, gallery(run, self._bank.image, self._links), title)
            self._keep("scores", run, score_rows(run), title)
            if report := self._links.report(run.run_id):
                self._keep("report", run, report, title)
        except Exception as error:
            self._log.warning("no gallery for run %s: %s", run.run_id, error)

    def _keep(self, kind: str, run: Run, data: Any, title: str) -> None:
        """Create the artifact, or bring the one of this flow run up to date."""
        key = artifact_key(kind, run.run_id)
        known = self._artifacts.get(key)
        if known is None:
            self._artifacts[key] = _created(kind, key, data, title)
        elif kind != "report":
            kept = data if isinstance(data, str) else json.dumps(data)
            with get_client(sync_client=True) as client:
                # Not client.update_artifact: that also sends the whole gallery as an event.
                client.request("PATCH", "/artifacts/{id}", json={"data": kept}, path_params={"id": known})

    def _tag(self, tags: Sequence[str]) -> None:
        context = FlowRunContext.get()
        if context is None or context.flow_run is None:
            return
        wanted = sorted({*context.flow_run.tags, "legion", *tags})
        try:
            with get_client(sync_client=True) as client:
                client.update_flow_run(context.flow_run.id, tags=wanted)
        except Exception as error:
            logging.getLogger(__name__).warning("no tags for the run: %s", error)


def _created(kind: str, key: str, data: Any, title: str) -> UUID:
    if kind == "gallery":
        return cast(UUID, create_markdown_artifact(markdown=data, key=key, description=title))
    if kind == "scores":
        return cast(UUID, create_table_artifact(table=data, key=key, description=title))
    return cast(
        UUID, create_link_artifact(link=data, link_text=f"report of {title}", key=key, description=title)
    )

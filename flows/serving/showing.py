"""What Prefect's pages show of a run: names and tags, a progress bar that moves, sentences in the log, and
one gallery, one table of scores and one link to the report for each picture or prompt.

Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property, partial

from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient
from prefect.variables import Variable

from contracts.protocols import MemoryBank
from contracts.records import Run
from controller.steps import Event, RoundFinished, RunFinished, StepFinished, StepStarted
from flows.pages.gallery import Links, artifact_key, gallery, score_rows
from flows.serving.board import Page, board_here, show_progress
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


def flow_name(kind: str, first: str, number: int, noun: str) -> str:
    """`regenerate · a red mug`, `regenerate · 16 prompts`; `first` is the first of so many."""
    return f"{kind} · {clipped(first, NAME_LENGTH) if number == 1 else count(number, noun)}"


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
    """Follows a job's events and keeps Prefect's pages up to date. Close it at the job's end."""

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
        self._kind, self._subject, self._rounds = kind, subject, rounds
        self._bank, self._share = bank, share
        self._live, self._alone = len(run_ids) <= LIVE_RUNS, len(run_ids) == 1
        self._begun, self._noun = time.monotonic(), "picture"
        self._log = get_run_logger()
        self._board = board_here(profile=profile, kind=kind)
        self._move(0.0)
        self._log.info("%s with the profile %s: %s.", count(len(run_ids), "run"), profile, ", ".join(run_ids))

    @cached_property
    def _links(self) -> Links:
        """Asked for when the first page is drawn, which nobody waits for."""
        return Links(image_url())

    def listen(self, event: Event) -> None:
        """Take an event of the loop."""
        if isinstance(event, StepStarted):
            self._begun, self._noun = time.monotonic(), event.noun
        elif isinstance(event, StepFinished) and event.done == event.total:
            self._step_finished(event)
        elif isinstance(event, RoundFinished) and self._live:
            name = f"round {event.round} of {event.run_id}"
            self._board.put(name, partial(self._round_finished, event))
        elif isinstance(event, RunFinished) and self._live:
            self._log.info("Run %s ends after round %d: %s.", event.run_id, event.round, event.stop)

    def watch(self, look: Callable[[SyncPrefectClient], None]) -> None:
        """Let the board look at the server, too."""
        self._board.watch(look)

    def step_name(self, step: StepStarted) -> str:
        """The name of the step's task."""
        return step_name(step, self._rounds, self._subject)

    def waited(self, seconds: float) -> None:
        """So much of the step that goes on was a person's."""
        self._begun += seconds

    def finish(self, runs: Sequence[Run]) -> None:
        """Every run's gallery, table and link as they are at the end."""
        for run in runs:
            self._put_pages(run.run_id, run)
        self._move(1.0)
        for run in runs:
            if report := self._links.report(run.run_id):
                self._log.info("The report of run %s: %s", run.run_id, report)

    def end(self) -> None:
        """Nothing more happens."""
        self._board.end()

    def close(self) -> None:
        """Wait until the pages are up to date."""
        self._board.close()

    def _put_pages(self, run_id: str, run: Run | None = None) -> None:
        """Show a run in place of what was to be shown of it. It is read when its turn comes, so that nothing
        older follows; `run` is as it stands at the end."""
        name, bank = f"the pages of {run_id}", self._bank
        self._board.put(name, lambda: pages_of(run or bank.load(run_id), bank, self._links))

    def _move(self, share: float) -> None:
        show_progress(self._board, share, f"{self._kind} · {self._subject}")

    def _step_finished(self, event: StepFinished) -> None:
        self._move(self._share(event, self._rounds))
        seconds = time.monotonic() - self._begun
        what = f"{DONE.get(event.step, event.step)} {count(event.total, self._noun)}"
        self._log.info("Round %d: %s in %.1f s.", event.round, what, seconds)

    def _round_finished(self, event: RoundFinished) -> list[Page]:
        """Called in the board's thread: to read a run takes longer than all else here."""
        run = self._bank.load(event.run_id)
        item = run.rounds[event.round - 1]
        words = f"{verdict_words(run, item)} ({reason_words(item)})"
        self._log.info("Round %d of %s is %s.", event.round, clipped(title_of(run), NAME_LENGTH), words)
        if item.revision is not None:
            self._log.info("The next prompt is: %s", item.revision.prompt)
        # The last round of a single run is shown by its end, which comes now, and for which it is waited.
        if not (self._alone and item.verdict is not None and item.verdict.stop):
            self._put_pages(run.run_id)
        return []


def pages_of(run: Run, bank: MemoryBank, links: Links) -> list[Page]:
    """A run's gallery and its scores and, where pictures are shown over http, the link to its report."""
    title = title_of(run)
    found = [
        Page("markdown", gallery(run, bank.image, links), title, artifact_key("gallery", run.run_id)),
        Page("table", score_rows(run), title, artifact_key("scores", run.run_id)),
    ]
    if report := links.report(run.run_id):
        link = f"[report of {title}]({report})"
        found.append(Page("markdown", link, title, artifact_key("report", run.run_id)))
    return found

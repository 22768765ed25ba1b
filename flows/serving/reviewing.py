"""A person is asked on Prefect's page: the run pauses with a form that shows the round, and goes on with the
answer.

The process stays alive, so the models stay loaded; whoever holds a GPU's slot gives it back while it waits.
Import this only after `flows.settings.prepare_prefect`: Prefect reads its settings when it is imported.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any, Literal, cast

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import SetStateStatus
from prefect.input import Keyset, RunInput, keyset_from_paused_state, read_flow_run_input
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL
from prefect.states import Paused, Running
from pydantic import Field, create_model

from contracts.errors import LegionError
from contracts.protocols import MemoryBank
from contracts.records import Review, ReviewDecision, Run, Verdict
from flows.jobs.approval import Approval, Ask, review_of
from flows.pages.gallery import Links, plain, round_page
from flows.serving.cancelling import RunCancelled, flow_run_here
from flows.serving.showing import image_url
from flows.terminal.wording import clipped, title_of

POLL_SECONDS = 2.0
"""How often the run looks for an answer."""
GRACE_SECONDS = 300
"""How much longer Prefect would take an answer: it is the run that says when the time is up."""

Words = Literal[
    "accept", "reject", "edit the prompt", "edit the mask thresholds", "leave it to the gate", "stop"
]
DECISIONS: dict[str, ReviewDecision] = {
    "accept": "accept",
    "reject": "reject",
    "edit the prompt": "edit prompt",
    "edit the mask thresholds": "edit thresholds",
    "leave it to the gate": "gate",
    "stop": "stop",
}


class RoundDecision(RunInput):
    """What a person may say about a round of a regeneration."""

    decision: Words = Field(
        "accept",
        description="accept or reject this round's picture, write the next prompt yourself, say which "
        "findings count, leave the verdict to the gate, or end the run here with its best picture.",
    )
    next_prompt: str = Field(
        "",
        title="Next prompt",
        description="For edit the prompt: what is painted next. Nothing else reads it.",
    )
    min_confidence: float = Field(
        0.0,
        ge=0,
        le=1,
        title="Least confidence",
        description="For edit the mask thresholds: findings less sure than this no longer count, 0 to 1.",
    )
    your_name: str = Field("", title="Your name", description="Kept with the decision.")
    note: str = Field("", title="Note", description="Kept with the decision, such as your reason.")

    def thresholds(self) -> dict[str, float]:
        """What was set."""
        return {"min_confidence": self.min_confidence}


class RepairDecision(RoundDecision):
    """What a person may say about a round of repairs."""

    dilate_pixels: int = Field(
        -1,
        ge=-1,
        le=4096,
        title="Grow the masks by",
        description="For edit the mask thresholds: pixels, from the next round on; -1 leaves it as it is.",
    )
    feather_pixels: int = Field(
        -1,
        ge=-1,
        le=4096,
        title="Soft edge beyond that",
        description="For edit the mask thresholds: pixels, from the next round on; -1 leaves it as it is.",
    )

    def thresholds(self) -> dict[str, float]:
        """What was set."""
        pixels = {"dilate_pixels": self.dilate_pixels, "feather_pixels": self.feather_pixels}
        return {**super().thresholds(), **{name: value for name, value in pixels.items() if value >= 0}}


def ask_on_page(approval: Approval, bank: MemoryBank, say: Callable[[str], None] | None = None) -> Ask:
    """Pauses the flow run and returns what a person filled in; `say` tells a terminal where the form is."""
    links, log, asked = Links(image_url()), get_run_logger(), itertools.count(1)

    def ask(run: Run, proposed: Verdict, problem: str) -> Review | None:
        index, title = run.rounds[-1].index, clipped(title_of(run), 60)
        page = round_page(run, proposed, bank.image, links)
        description = f"**That cannot be used: {plain(problem)}**\n\n{page}" if problem else page
        filled = _form(run).with_initial_data(description=description)
        log.info("Round %d of %s waits up to %g minutes for a decision.", index, title, approval.minutes)
        if say is not None:
            say(f"round {index} of {title} waits for a decision: {page_of_this_run()}")
        key = f"{run.run_id}-{index}-{next(asked)}"
        answer = _paused(filled, key, 60 * approval.minutes)
        if answer is None:
            log.info("Nobody decided on round %d in time.", index)
            return None
        review = _as_review(answer)
        log.info("Round %d: %s decided: %s.", index, review.who, review.decision)
        return review

    return ask


def _form(run: Run) -> type[RoundDecision]:
    """The form for a run's last round, its prompt filled in."""
    base = RepairDecision if run.kind == "inpainting" else RoundDecision
    prompt = copy(base.model_fields["next_prompt"])
    prompt.default = run.rounds[-1].prompt
    made: Any = create_model(base.__name__, __base__=base, next_prompt=(str, prompt))
    return cast(type[RoundDecision], made)


def page_of_this_run() -> str:
    """Where a browser finds the flow run that runs here."""
    base = PREFECT_UI_URL.value() or (PREFECT_API_URL.value() or "").removesuffix("/api")
    run = flow_run_here()
    return f"{base}/runs/flow-run/{'' if run is None else run.id}"


def _as_review(answer: RoundDecision) -> Review:
    decision = DECISIONS[answer.decision]
    return review_of(decision, answer.your_name, answer.next_prompt, answer.thresholds(), answer.note)


def _paused(form: type[RoundDecision], key: str, seconds: float) -> RoundDecision | None:
    """Pause the flow run that runs here until the form is filled in; None, and it runs on, if nobody does in
    time. Raises RunCancelled.

    Prefect's own `pause_flow_run` fails the run when the time is up, and waits on if it was cancelled.
    """
    run = flow_run_here()
    if run is None:
        raise LegionError("only a flow run can ask on Prefect's page: use --review-on terminal")
    state: State[Any] = Paused(
        timeout_seconds=round(seconds) + GRACE_SECONDS, reschedule=False, pause_key=key
    )
    keys = keyset_from_paused_state(state)
    state.state_details.run_input_keyset = cast(dict[str, str], keys)
    # Before the run says that it waits: whoever looks then finds the form.
    form.save(keys, flow_run_id=run.id)
    with get_client(sync_client=True) as client:
        if client.set_flow_run_state(run.id, state).status != SetStateStatus.ACCEPT:
            raise RunCancelled
        return _answer(client, run, form, keys, time.monotonic() + seconds)


def _answer(
    client: SyncPrefectClient, run: FlowRun, form: type[RoundDecision], keys: Keyset, deadline: float
) -> RoundDecision | None:
    """What is filled in; None after the deadline, when the run runs on. Raises RunCancelled."""
    while True:
        late = time.monotonic() >= deadline
        state = None
        with suppress(httpx.HTTPError):  # people take longer than a server that starts anew
            state = client.read_flow_run(run.id).state
        if state is not None and state.is_running():
            return _filled(form, keys, run) or form.model_validate({})  # resumed without a word
        if state is not None and not state.is_paused() and (late or run.deployment_id is None):
            raise RunCancelled  # of a deployment it is the serving process that ends this one
        if late:
            if client.set_flow_run_state(run.id, Running()).status != SetStateStatus.ACCEPT:
                raise RunCancelled
            return _filled(form, keys, run)  # at the last moment
        time.sleep(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))


def _filled(form: type[RoundDecision], keys: Keyset, run: FlowRun) -> RoundDecision | None:
    """What is filled in; None if nothing is."""
    values = cast(dict[str, Any] | None, read_flow_run_input(keys["response"], flow_run_id=run.id))
    return form(**values) if values else None

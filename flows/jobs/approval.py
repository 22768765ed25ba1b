"""Approval as a person asked for it: when somebody is asked about a round, and what stands if nobody answers.
Does not need Prefect.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from contracts.errors import InvalidInput, LegionError
from contracts.records import Review, ReviewDecision, Run, Verdict
from controller.prompt_rules import clean_prompt
from controller.reviewing import Moment, Reviewer, asks
from controller.steps import ignore

AfterTimeout: TypeAlias = Literal["gate", "stop", "fail"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
AFTER_TIMEOUT: tuple[AfterTimeout, ...] = get_args(AfterTimeout)
MAX_MINUTES = 10_080
Ask: TypeAlias = Callable[[Run, Verdict, str], Review | None]
"""Asks about a run's last round, with the gate's proposal and what was wrong with the answer before; None if
nobody answers in time. Raises InvalidInput for an answer that cannot be used."""
NOBODY = "nobody, in time"
UNNAMED = "a person without a name"


@dataclass(frozen=True)
class Approval:
    """When a person is asked, for how long, and what stands if nobody answers."""

    review: Moment = "none"
    minutes: float = 60
    after_timeout: AfterTimeout = "gate"

    def asks(self, run: Run, proposed: Verdict) -> bool:
        """Is a person asked about the run's last round?"""
        return asks(self.review, run, proposed)

    def as_parameters(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)

    def unanswered(self, run: Run) -> Review:
        """What stands if nobody answers. Raises LegionError where that is a failure."""
        if self.after_timeout == "fail":
            raise LegionError(
                f"nobody answered within {self.minutes:g} minutes: legion resume {run.run_id} --review "
                f"{self.review}, or a form with that run id, asks again"
            )
        return review_of("stop" if self.after_timeout == "stop" else "gate", NOBODY)


def reviewer(approval: Approval, ask: Ask, release: Callable[[], None] = lambda: None) -> Reviewer | None:
    """Asks where somebody is to be asked, again if an answer cannot be used; None where nobody ever is.
    `release` gives back what is not needed meanwhile."""
    if approval.review == "none":
        return None

    def review(run: Run, proposed: Verdict) -> Review | None:
        if not approval.asks(run, proposed):
            return None
        release()
        problem = ""
        while True:
            try:
                return ask(run, proposed, problem) or approval.unanswered(run)
            except InvalidInput as error:
                problem = str(error)

    return review


@dataclass(frozen=True)
class Audience:
    """Who sits in front of a job."""

    listener: Callable[[Any], None] = ignore
    """Gets the loop's events."""
    approval: Approval = Approval()
    ask: Ask | None = None
    """Asks about rounds; None leaves it to Prefect's page."""
    say: Callable[[str], None] | None = None
    """Tells a person where that page is."""


ALONE = Audience()


def check_approval(review: str, minutes: float | None, after_timeout: str | None) -> Approval:
    """From the options of a command; None was not given. Raises InvalidInput."""
    given = {"minutes": minutes, "after_timeout": after_timeout}
    chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if review == "none" and chosen:
        option = "--review-minutes" if minutes is not None else "--after-timeout"
        raise InvalidInput(f"{option} waits for nobody: say when to ask with --review")
    if minutes is not None and not 0 < minutes <= MAX_MINUTES:
        raise InvalidInput(f"--review-minutes is {minutes:g}: choose a number above 0 up to {MAX_MINUTES}")
    return Approval(review, **chosen)  # type: ignore[arg-type]  # the parser knows the choices


def recorded(run: Run) -> Reviewer:
    """Answers as a person did when the run was made."""
    said = {item.index: item.review for item in run.rounds}
    return lambda again, _: said.get(again.rounds[-1].index)


def review_of(
    decision: ReviewDecision,
    who: str,
    prompt: str = "",
    thresholds: Mapping[str, float] | None = None,
    note: str = "",
) -> Review:
    """A decision made now. Raises InvalidInput for a prompt that cannot be painted, and for no threshold."""
    if decision == "edit prompt":
        prompt = clean_prompt(prompt)
    if decision == "edit thresholds" and not thresholds:
        raise InvalidInput("no threshold was given: write at least one, or decide otherwise")
    return Review(
        decision=decision,
        who=" ".join(who.split()) or UNNAMED,
        when=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        prompt=prompt if decision == "edit prompt" else "",
        thresholds=dict(thresholds or {}) if decision == "edit thresholds" else {},
        note=" ".join(note.split()),
    )

"""What a person asked for, as plain values, and the one way in which it is done: the controller's loop."""

from __future__ import annotations

import datetime
import re
import secrets
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from contracts.errors import InvalidInput
from contracts.protocols import MemoryBank
from contracts.records import Run
from controller.regeneration import (
    KIND,
    Case,
    RegenerationSettings,
    RegenerationTools,
    regenerate,
)
from controller.reviewing import Reviewer
from controller.steps import StepRunner, call_step, ignore
from flows.jobs import keeping
from flows.jobs.parameters import Parameters
from flows.profiles.loading import Profile
from flows.settings import MAX_BATCH, MAX_ROUNDS

Listener = Callable[[Any], None]

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
SMALL_WORDS = frozenset("a an the on of with in and at by to for is are".split())


@dataclass(frozen=True)
class Job(Parameters):
    """One call of the loop: plain values only, so that it can be a flow's parameters."""

    profile: str
    cases: tuple[Case, ...]
    rounds: int
    patience: int
    score_tolerance: float
    batch_size: int
    modifier: Mapping[str, object] = field(default_factory=dict)
    """Values in place of those in the profile's section of that name."""
    painter: Mapping[str, object] = field(default_factory=dict)
    """Values in place of those of the profile's generator."""
    memory: bool = False
    """Whether revisions look up what helped in earlier runs."""
    accept_changes: bool = False
    """Whether a run that began with other settings goes on with these."""

    case_class: ClassVar[type[Case]] = Case

    def settings(self) -> RegenerationSettings:
        """The loop's settings. Raises InvalidInput."""
        return RegenerationSettings(
            rounds=self.rounds,
            patience=self.patience,
            score_tolerance=self.score_tolerance,
            batch_size=self.batch_size,
            memory=self.memory,
        )


def make_job(
    profile_name: str,
    profile: Profile,
    prompts: Sequence[str],
    run_id: str,
    seed: int,
    rounds: int | None = None,
    batch_size: int | None = None,
    modifier: Mapping[str, object] | None = None,
    painter: Mapping[str, object] | None = None,
    memory: bool | None = None,
    accept_changes: bool = False,
) -> Job:
    """A job from checked values; whatever is None comes from the profile."""
    return Job(
        profile=profile_name,
        cases=tuple(Case(i, p, seed) for i, p in zip(run_ids(run_id, len(prompts)), prompts, strict=True)),
        rounds=profile.loop.rounds if rounds is None else rounds,
        patience=profile.loop.patience,
        score_tolerance=profile.loop.score_tolerance,
        batch_size=profile.generator.batch_size if batch_size is None else batch_size,
        modifier=dict(modifier or {}),
        painter=dict(painter or {}),
        memory=profile.loop.memory if memory is None else memory,
        accept_changes=accept_changes,
    )


def execute(
    job: Job,
    tools: RegenerationTools,
    bank: MemoryBank,
    run_step: StepRunner = call_step,
    on_event: Listener = ignore,
    reviewer: Reviewer | None = None,
) -> list[Run]:
    """Run the loop for a job. With Prefect or without it, everything passes here."""
    asked = keeping.asked(bank, job)
    keeping.take_up(bank, KIND, asked, lambda _: keeping.repaint(tools.generator), tools.defender)
    return regenerate(
        job.cases, tools, bank, job.settings(), run_step=run_step, on_event=on_event, reviewer=reviewer
    )


def check_prompts(prompts: Sequence[str], file: Path | None = None) -> list[str]:
    """All prompts of a call, those of the file last, each cleaned by the controller's rules.

    Raises InvalidInput for none or too many of them, and for one that cannot be used, with its number.
    """
    from controller.prompt_rules import read_prompts_file

    cleaned = [_cleaned(prompt, number, len(prompts)) for number, prompt in enumerate(prompts, start=1)]
    if file is not None:
        cleaned += read_prompts_file(file)
    if not cleaned:
        raise InvalidInput(
            'no prompt: write one in quotes, as in legion regenerate "a red cone", or use --prompts'
        )
    if len(cleaned) > MAX_BATCH:
        raise InvalidInput(f"{len(cleaned)} prompts are too many for one call: at most {MAX_BATCH}")
    return cleaned


def _cleaned(prompt: str, number: int, of: int) -> str:
    from controller.prompt_rules import clean_prompt

    try:
        return clean_prompt(prompt)
    except InvalidInput as error:
        raise error if of == 1 else InvalidInput(f"prompt {number} of {of}: {error}") from None


def check_run_id(run_id: str) -> str:
    """The id if it can also be a folder's name. Raises InvalidInput."""
    if not RUN_ID.fullmatch(run_id):
        raise InvalidInput(
            f"run id {run_id!r} cannot be used: up to 80 letters, digits, dots, dashes and underscores, "
            "the first a letter or digit"
        )
    return run_id


def check_count(name: str, value: int | None, most: int) -> int | None:
    """A whole number from 1 to `most`, or None. Raises InvalidInput."""
    if value is not None and not 1 <= value <= most:
        raise InvalidInput(f"--{name} is {value}: choose a number from 1 to {most}")
    return value


def check_rounds(value: int | None) -> int | None:
    """Rounds as a person gave them. Raises InvalidInput."""
    return check_count("rounds", value, MAX_ROUNDS)


def new_run_id(prompts: Sequence[str], now: datetime.datetime | None = None, end: str | None = None) -> str:
    """A short, sortable, readable id such as `20261121-071502-red-cone-7f3a`; UTC, the end is random unless
    given."""
    moment = now or datetime.datetime.now(datetime.UTC)
    words = "batch" if len(prompts) > 1 else slug(prompts[0])
    return f"{moment:%Y%m%d-%H%M%S}-{words}-{end or secrets.token_hex(2)}"


def run_ids(base: str, number: int) -> list[str]:
    """One prompt keeps the id; several get it with -1, -2, ... so that one id resumes the whole batch."""
    return [base] if number == 1 else [f"{base}-{index}" for index in range(1, number + 1)]


def slug(prompt: str) -> str:
    """The first two telling words in plain letters; `run` where there are none."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.findall(r"[a-z0-9]+", plain) if word not in SMALL_WORDS]
    return "-".join(word[:16] for word in words[:2]) or "run"

"""What both loops share: steps committed one by one, events about them, and checks of what tools give.

A step is pending until its result is committed. What is pending is asked again whenever the step's work runs,
so a step that is tried again, or a run that is taken up again, repeats nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np

from contracts.errors import InvalidInput, ModelError
from contracts.protocols import Defender, PromptModifier, Scorer
from contracts.records import Diagnosis, Finding, Image, ModelCall, Score, Usage
from controller.prompt_rules import clean_prompt

StepRunner: TypeAlias = Callable[[str, Callable[[], None]], None]
"""Runs one step's work under a label such as "paint · round 2 · 16 pictures". It may run the work again if it
failed: what was committed is not repeated."""

T = TypeVar("T")


@dataclass(frozen=True)
class StepStarted:
    """`total` pictures, or regions of pictures, are about to take this step of this round."""

    step: str
    round: int
    total: int
    noun: str = "picture"


@dataclass(frozen=True)
class StepFinished:
    """One run's step is committed: the `done`-th of `total`."""

    run_id: str
    step: str
    round: int
    done: int
    total: int


@dataclass(frozen=True)
class RoundFinished:
    """One run's round has its verdict and, if another round follows, all that it needs for it."""

    run_id: str
    round: int
    rounds: int
    accepted: bool


@dataclass(frozen=True)
class RunFinished:
    """One run is over: the `done`-th of `total`."""

    run_id: str
    round: int
    stop: str
    done: int
    total: int


Event: TypeAlias = StepStarted | StepFinished | RoundFinished | RunFinished


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The parts that both loops have. Reporting scorers are recorded and never select."""

    defender: Defender
    selection_scorer: Scorer
    reporting_scorers: tuple[Scorer, ...]
    modifier: PromptModifier

    @property
    def scorers(self) -> tuple[Scorer, ...]:
        """All scorers, the selecting one first."""
        return (self.selection_scorer, *self.reporting_scorers)

    def describe(self) -> dict[str, object]:
        """What a record needs to know about every part."""
        return {
            "defender": dict(self.defender.describe()),
            "selection_scorer": dict(self.selection_scorer.describe()),
            "reporting_scorers": [dict(scorer.describe()) for scorer in self.reporting_scorers],
            "modifier": dict(self.modifier.describe()),
        }


def call_step(_label: str, work: Callable[[], None]) -> None:
    """The plain StepRunner: just do it."""
    work()


def ignore(_event: Event) -> None:
    """The silent listener."""


@dataclass(frozen=True)
class Stepper:
    """Takes steps for many runs in lockstep, some at a time."""

    run_step: StepRunner
    on_event: Callable[[Event], None]
    batch_size: int

    def take(
        self,
        step: str,
        index: int,
        items: Sequence[T],
        pending: Callable[[T], bool],
        commit: Callable[[Sequence[T]], Iterator[T]],
        run_id: Callable[[T], str],
        noun: str = "picture",
    ) -> None:
        """Take one step of round `index` for the items that need it.

        `commit` makes one model call for a few items and yields each once its result is committed.
        """
        total = sum(map(pending, items))
        if not total:
            return
        self.on_event(StepStarted(step, index, total, noun))

        def work() -> None:
            waiting = [item for item in items if pending(item)]
            done = total - len(waiting)
            for chunk in chunks(waiting, self.batch_size):
                for item in commit(chunk):
                    done += 1
                    self.on_event(StepFinished(run_id(item), step, index, done, total))

        self.run_step(f"{step} · round {index} · {total} {noun}{'' if total == 1 else 's'}", work)


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items in order, up to `size` at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


def timed(name: str, count: int, call: Callable[[], list[T]]) -> tuple[list[T], float]:
    """The tool's results, one for each of `count` inputs, and each one's share of the seconds they took.

    Raises ModelError for another number of results.
    """
    start = time.perf_counter()
    results = call()
    seconds = time.perf_counter() - start
    if len(results) != count:
        raise ModelError(f"{name} gave {len(results)} results for {count} inputs: it must give one each")
    return results, seconds / count


def score_all(
    scorers: Sequence[Scorer], images: Sequence[Image], prompts: Sequence[str]
) -> tuple[list[tuple[Score, ...]], list[ModelCall]]:
    """Every scorer's score of every picture, and a picture's share of each call. Raises ModelError."""
    columns: list[list[Score]] = []
    calls: list[ModelCall] = []
    for tool in scorers:
        scores, share = timed(tool.name, len(images), lambda t=tool: t.score(images, prompts))  # type: ignore[misc]
        check_scores(tool.name, scores)
        columns.append(scores)
        calls.append(ModelCall("scorer", tool.name, share, len(images)))
    return list(zip(*columns, strict=True)), calls


def seconds_of(calls: Sequence[ModelCall]) -> float:
    """What they took together."""
    return sum((call.seconds for call in calls), 0.0)


def written(name: str, usage: Usage, seconds: float, batch: int) -> tuple[ModelCall, ...]:
    """What a modifier's answer took: a call if a language model was asked for it, none if rules gave it."""
    return (ModelCall("modifier", name, seconds, batch, usage),) if usage.calls else ()


def diagnoses_of(
    name: str, images: Sequence[Image], call: Callable[[], list[Diagnosis]]
) -> tuple[list[Diagnosis], float]:
    """The defender's word on every picture, checked, and a picture's share of the seconds. Raises
    ModelError."""
    diagnoses, seconds = timed(name, len(images), call)
    for image, diagnosis in zip(images, diagnoses, strict=True):
        check_masks(name, image, diagnosis.findings)
    return diagnoses, seconds


def check_unique(ids: Sequence[str], what: str) -> None:
    """Raises InvalidInput for a run id that is given twice; `what` needs its own."""
    if repeated := sorted({run_id for run_id in ids if ids.count(run_id) > 1}):
        raise InvalidInput(f"the run id {repeated[0]!r} is given twice: each {what} needs its own")


def check_scorer_names(scorers: Sequence[Scorer]) -> None:
    """Raises InvalidInput for two scorers of one name."""
    names = [scorer.name for scorer in scorers]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"two scorers are called {repeated[0]!r}: give each its own name")


def check_batch_size(size: int) -> None:
    """Raises InvalidInput below 1."""
    if size < 1:
        raise InvalidInput(f"batch size {size} cannot be used: choose 1 or more")


def check_scores(name: str, scores: Sequence[Score]) -> None:
    """Raises ModelError for a score that another scorer signed."""
    if wrong := [score.name for score in scores if score.name != name]:
        raise ModelError(f"the scorer {name!r} signs its scores {wrong[0]!r}: they must carry its own name")


def check_image(name: str, image: Image) -> None:
    """Raises ModelError for anything but uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ModelError(f"{name} gave {image.dtype} {image.shape}: a picture is uint8 (H, W, 3)")


def check_masks(name: str, image: Image, findings: Sequence[Finding]) -> None:
    """Raises ModelError for a mask that is not bool and of the picture's size."""
    for finding in findings:
        if finding.mask.dtype != np.bool_ or finding.mask.shape != image.shape[:2]:
            raise ModelError(
                f"{name} gave a {finding.mask.dtype} mask of {finding.mask.shape} for a picture of "
                f"{image.shape[:2]}: a mask is bool (H, W) of the same size"
            )


def usable_prompt(name: str, prompt: str) -> str:
    """What a modifier proposed, cleaned. Raises ModelError for a prompt that cannot be used."""
    try:
        return clean_prompt(prompt)
    except InvalidInput as error:
        raise ModelError(f"{name} proposed a prompt that cannot be used: {error}") from error

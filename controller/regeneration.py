"""The regeneration loop: paint, diagnose, score, judge, revise, over many runs in lockstep.

After section 5 of the LEGION paper (arXiv 2503.15264), with three differences: scores are always taken
against the person's own prompt, a picture that is not better is rolled back, and the best round is what a run
returns.

Every step's result is committed to the memory bank before the next step begins. A step is pending as long as
its field of the Round is None, so a run that was interrupted goes on where it stood and repeats nothing.
Pictures are always read back from the bank: a resumed run takes the very same path as one that was never
stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, TypeVar

import numpy as np

from contracts.errors import InvalidInput, ModelError
from contracts.protocols import Defender, Generator, MemoryBank, PromptModifier, Scorer
from contracts.records import (
    Finding,
    GenerationRequest,
    Image,
    RevisionRequest,
    Round,
    Run,
    Score,
)
from contracts.seeds import derive_seed
from controller.gate import GateSettings, best_round, judge
from controller.prompt_rules import clean_prompt

KIND = "regeneration"
Step: TypeAlias = Literal["paint", "diagnose", "score", "judge", "revise"]
STEPS: tuple[Step, ...] = ("paint", "diagnose", "score", "judge", "revise")

StepRunner: TypeAlias = Callable[[str, Callable[[], None]], None]
"""Runs one step's work under a label such as "paint · round 2 · 16 pictures". It may run the work again if it
failed: what was committed is not repeated."""

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One prompt to work on. The prompt never changes; every score is taken against it."""

    run_id: str
    prompt: str
    seed: int


@dataclass(frozen=True)
class RegenerationTools:
    """The parts of the loop. Reporting scorers are recorded and never select."""

    generator: Generator
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
            "generator": dict(self.generator.describe()),
            "defender": dict(self.defender.describe()),
            "selection_scorer": dict(self.selection_scorer.describe()),
            "reporting_scorers": [dict(scorer.describe()) for scorer in self.reporting_scorers],
            "modifier": dict(self.modifier.describe()),
        }


@dataclass(frozen=True)
class RegenerationSettings:
    """How long and how strictly. Raises InvalidInput for numbers that make no loop."""

    rounds: int = 3
    """Rounds at most, 1 or more."""
    patience: int = 2
    """Rejected rounds in a row after which a run ends, 1 or more."""
    score_tolerance: float = 0.0
    """How far the selection score may fall below the best round's, in the score's own units."""
    batch_size: int = 8
    """Samples per model call. Changes speed and memory, not results, so it is no part of a run's record."""

    def __post_init__(self) -> None:
        self.gate("selection")
        if self.batch_size < 1:
            raise InvalidInput(f"batch size {self.batch_size} cannot be used: choose 1 or more")

    def gate(self, selection_score: str) -> GateSettings:
        """What the gate goes by."""
        return GateSettings(selection_score, self.rounds, self.patience, self.score_tolerance)


@dataclass(frozen=True)
class StepStarted:
    """`total` runs are about to take this step of this round."""

    step: Step
    round: int
    total: int


@dataclass(frozen=True)
class StepFinished:
    """One run's step is committed: the `done`-th of `total`."""

    run_id: str
    step: Step
    round: int
    done: int
    total: int


@dataclass(frozen=True)
class RoundFinished:
    """One run's round has its verdict and, if another round follows, its revision."""

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


def call_step(_label: str, work: Callable[[], None]) -> None:
    """The plain StepRunner: just do it."""
    work()


def ignore(_event: Event) -> None:
    """The silent listener."""


def regenerate(
    cases: Sequence[Case],
    tools: RegenerationTools,
    bank: MemoryBank,
    settings: RegenerationSettings,
    *,
    run_step: StepRunner = call_step,
    on_event: Callable[[Event], None] = ignore,
) -> list[Run]:
    """Work on all cases until each has nothing left to repair or its rounds are used up; the runs, in their
    order.

    `Run.best` is the picture to show. A run id that the bank knows is taken up where it stood. Whatever is
    raised (KeyboardInterrupt included) passes through, with everything committed so far kept. Raises
    InvalidInput for unusable prompts and repeated ids, ModelError for tools that break their contract, and
    the bank's own errors.
    """
    cases = _checked(cases)
    _check_scorer_names(tools)
    record = run_settings(tools, settings)
    with ExitStack() as held:
        runs = [
            held.enter_context(
                bank.begin(case.run_id, kind=KIND, prompt=case.prompt, seed=case.seed, settings=record)
            )
            for case in cases
        ]
        _Loop(runs, tools, bank, settings, run_step, on_event).run()
        return [bank.load(case.run_id) for case in cases]


def run_settings(tools: RegenerationTools, settings: RegenerationSettings) -> dict[str, object]:
    """What a run's result depends on: the record by which the bank knows that a resumed run is still the
    same."""
    limits = {
        "rounds": settings.rounds,
        "patience": settings.patience,
        "score_tolerance": settings.score_tolerance,
    }
    return {**limits, **tools.describe()}


class _State:
    """One run as the loop sees it: the committed rounds, kept in step with the bank."""

    def __init__(self, run: Run) -> None:
        self.run_id, self.prompt, self.seed = run.run_id, run.prompt, run.seed
        self.rounds = list(run.rounds)
        self.finished = run.status == "finished"

    @property
    def last(self) -> Round:
        return self.rounds[-1]

    @property
    def next_index(self) -> int:
        """The round that has a step pending."""
        if self.rounds and (
            self.last.verdict is None or self.last.verdict.stop or self.last.revision is None
        ):
            return self.last.index
        return len(self.rounds) + 1

    def update(self, **fields: object) -> None:
        self.rounds[-1] = replace(self.last, **fields)  # type: ignore[arg-type]


class _Loop:
    """The steps over all runs. Holds nothing that is not in the bank."""

    def __init__(
        self,
        runs: Sequence[Run],
        tools: RegenerationTools,
        bank: MemoryBank,
        settings: RegenerationSettings,
        run_step: StepRunner,
        on_event: Callable[[Event], None],
    ) -> None:
        self.states = [_State(run) for run in runs]
        self.tools, self.bank, self.settings = tools, bank, settings
        self.run_step, self.on_event = run_step, on_event
        self.gate = settings.gate(tools.selection_scorer.name)

    def run(self) -> None:
        for index in range(1, self.settings.rounds + 1):
            # A resumed run waits here until the others have reached its round.
            states = [s for s in self.states if not s.finished and s.next_index == index]
            for step in STEPS:
                self._step(step, index, states)
            for state in states:
                self._close_round(state)

    def _step(self, step: Step, index: int, states: Sequence[_State]) -> None:
        """Run one step for those that need it; what is pending is asked again inside, so a retry is safe."""
        total = sum(_is_pending(step, index, state) for state in states)
        if not total:
            return
        self.on_event(StepStarted(step, index, total))

        def work() -> None:
            pending = [state for state in states if _is_pending(step, index, state)]
            done = total - len(pending)
            for chunk in _chunks(pending, self.settings.batch_size):
                for state in self._commit(step, index, chunk):
                    done += 1
                    self.on_event(StepFinished(state.run_id, step, index, done, total))

        self.run_step(f"{step} · round {index} · {total} picture{'' if total == 1 else 's'}", work)

    def _commit(self, step: Step, index: int, chunk: Sequence[_State]) -> Iterator[_State]:
        """Take one step for a chunk with one model call; yields each run once its result is committed."""
        match step:
            case "paint":
                return self._paint(index, chunk)
            case "diagnose":
                return self._diagnose(chunk)
            case "score":
                return self._score(chunk)
            case "judge":
                return self._judge(chunk)
            case "revise":
                return self._revise(chunk)

    def _paint(self, index: int, chunk: Sequence[_State]) -> Iterator[_State]:
        for state in chunk:
            if len(state.rounds) < index:
                prompt = state.last.revision.prompt if state.rounds and state.last.revision else state.prompt
                seed = derive_seed(state.seed, index)
                state.rounds.append(self.bank.open_round(state.run_id, index, prompt, seed))
        requests = [GenerationRequest(state.last.prompt, state.last.seed) for state in chunk]
        tool = self.tools.generator
        images, seconds = _timed(tool.name, chunk, lambda: tool.generate(requests))
        for state, image in zip(chunk, images, strict=True):
            _check_image(tool.name, image)
            digest = self.bank.commit_image(state.run_id, index, image, seconds)
            state.update(image=digest)
            yield state

    def _diagnose(self, chunk: Sequence[_State]) -> Iterator[_State]:
        images, tool = self._images(chunk), self.tools.defender
        diagnoses, seconds = _timed(tool.name, chunk, lambda: tool.diagnose(images))
        for state, image, diagnosis in zip(chunk, images, diagnoses, strict=True):
            _check_masks(tool.name, image, diagnosis.findings)
            self.bank.commit_diagnosis(state.run_id, state.last.index, diagnosis, seconds)
            state.update(diagnosis=diagnosis)
            yield state

    def _score(self, chunk: Sequence[_State]) -> Iterator[_State]:
        images, prompts = self._images(chunk), [state.prompt for state in chunk]
        columns: list[list[Score]] = []
        seconds = 0.0
        for tool in self.tools.scorers:
            scores, share = _timed(tool.name, chunk, lambda t=tool: t.score(images, prompts))  # type: ignore[misc]
            _check_scores(tool.name, scores)
            columns.append(scores)
            seconds += share
        for state, row in zip(chunk, zip(*columns, strict=True), strict=True):
            self.bank.commit_scores(state.run_id, state.last.index, row, seconds)
            state.update(scores=tuple(row))
            yield state

    def _judge(self, chunk: Sequence[_State]) -> Iterator[_State]:
        for state in chunk:
            verdict = judge(state.last, state.rounds[:-1], self.gate)
            self.bank.commit_verdict(state.run_id, state.last.index, verdict)
            state.update(verdict=verdict)
            yield state

    def _revise(self, chunk: Sequence[_State]) -> Iterator[_State]:
        requests = [_revision_request(state) for state in chunk]
        tool = self.tools.modifier
        revisions, seconds = _timed(tool.name, chunk, lambda: tool.revise(requests))
        for state, revision in zip(chunk, revisions, strict=True):
            kept = replace(revision, prompt=_usable_prompt(tool.name, revision.prompt))
            self.bank.commit_revision(state.run_id, state.last.index, kept, seconds)
            state.update(revision=kept)
            yield state

    def _close_round(self, state: _State) -> None:
        verdict = state.last.verdict
        assert verdict is not None
        self.on_event(RoundFinished(state.run_id, state.last.index, self.settings.rounds, verdict.accepted))
        if verdict.stop is None:
            return
        self.bank.finish(state.run_id, "finished")
        state.finished = True
        done = sum(s.finished for s in self.states)
        self.on_event(RunFinished(state.run_id, state.last.index, verdict.stop, done, len(self.states)))

    def _images(self, chunk: Sequence[_State]) -> list[Image]:
        return [self.bank.image(state.last.image or "") for state in chunk]


def _is_pending(step: Step, index: int, state: _State) -> bool:
    """Has this run not taken this step of this round yet? A run that stops needs no revision."""
    if len(state.rounds) < index:
        return step == "paint"
    now = state.rounds[index - 1]
    match step:
        case "paint":
            return now.image is None
        case "diagnose":
            return now.diagnosis is None
        case "score":
            return now.scores is None
        case "judge":
            return now.verdict is None
        case "revise":
            return now.revision is None and now.verdict is not None and now.verdict.stop is None


def _revision_request(state: _State) -> RevisionRequest:
    earlier = tuple(dict.fromkeys(r.prompt for r in state.rounds[:-1]))
    return RevisionRequest(state.prompt, state.last.prompt, _open_findings(state), earlier)


def _open_findings(state: _State) -> tuple[Finding, ...]:
    """What the next picture should answer: this round's findings, or the best round's if this one was rolled
    back although nothing was found in it."""
    best = best_round(state.rounds)
    for candidate in (state.last, best):
        if candidate is not None and candidate.diagnosis is not None and candidate.diagnosis.findings:
            return candidate.diagnosis.findings
    return ()


def _timed(name: str, chunk: Sequence[_State], call: Callable[[], list[T]]) -> tuple[list[T], float]:
    """The tool's results, one per run, and each run's share of the seconds they took."""
    start = time.perf_counter()
    results = call()
    seconds = time.perf_counter() - start
    if len(results) != len(chunk):
        raise ModelError(f"{name} gave {len(results)} results for {len(chunk)} inputs: it must give one each")
    return results, seconds / len(chunk)


def _chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _checked(cases: Sequence[Case]) -> list[Case]:
    cleaned = [replace(case, prompt=clean_prompt(case.prompt)) for case in cases]
    ids = [case.run_id for case in cleaned]
    if repeated := sorted({run_id for run_id in ids if ids.count(run_id) > 1}):
        raise InvalidInput(f"the run id {repeated[0]!r} is given twice: each prompt needs its own")
    return cleaned


def _check_scorer_names(tools: RegenerationTools) -> None:
    names = [scorer.name for scorer in tools.scorers]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidInput(f"two scorers are called {repeated[0]!r}: give each its own name")


def _check_scores(name: str, scores: Sequence[Score]) -> None:
    if wrong := [score.name for score in scores if score.name != name]:
        raise ModelError(f"the scorer {name!r} signs its scores {wrong[0]!r}: they must carry its own name")


def _check_image(name: str, image: Image) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ModelError(f"{name} gave {image.dtype} {image.shape}: a picture is uint8 (H, W, 3)")


def _check_masks(name: str, image: Image, findings: Sequence[Finding]) -> None:
    for finding in findings:
        if finding.mask.dtype != np.bool_ or finding.mask.shape != image.shape[:2]:
            raise ModelError(
                f"{name} gave a {finding.mask.dtype} mask of {finding.mask.shape} for a picture of "
                f"{image.shape[:2]}: a mask is bool (H, W) of the same size"
            )


def _usable_prompt(name: str, prompt: str) -> str:
    try:
        return clean_prompt(prompt)
    except InvalidInput as error:
        raise ModelError(f"{name} proposed a prompt that cannot be used: {error}") from error

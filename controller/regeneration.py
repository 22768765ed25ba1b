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

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from contracts.protocols import Generator, MemoryBank
from contracts.records import (
    Finding,
    GenerationRequest,
    Image,
    Lesson,
    ModelCall,
    Revision,
    RevisionRequest,
    Round,
    Run,
    Try,
    Usage,
)
from contracts.seeds import derive_seed
from controller.experience import painter_key, round_trials, symptoms
from controller.gate import GateSettings, best_round
from controller.prompt_rules import clean_prompt
from controller.reviewing import Reviewer, counted, reviewed, told
from controller.steps import (
    Event,
    RoundFinished,
    RunFinished,
    Stepper,
    StepRunner,
    Tools,
    call_step,
    check_batch_size,
    check_image,
    check_scorer_names,
    check_unique,
    diagnoses_of,
    ignore,
    score_all,
    seconds_of,
    timed,
    usable_prompt,
    written,
)

KIND = "regeneration"
Step: TypeAlias = Literal["paint", "diagnose", "score", "judge", "revise"]
STEPS: tuple[Step, ...] = ("paint", "diagnose", "score", "judge", "revise")


@dataclass(frozen=True)
class Case:
    """One prompt to work on. The prompt never changes; every score is taken against it."""

    run_id: str
    prompt: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class RegenerationTools(Tools):
    """The parts of the loop."""

    generator: Generator

    def describe(self) -> dict[str, object]:
        """What a record needs to know about every part."""
        return {"generator": dict(self.generator.describe()), **super().describe()}


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
    memory: bool = False
    """Whether revisions look up what helped in earlier runs. What a run teaches is kept in any case."""

    def __post_init__(self) -> None:
        self.gate("selection")
        check_batch_size(self.batch_size)

    def gate(self, selection_score: str) -> GateSettings:
        """What the gate goes by."""
        return GateSettings(selection_score, self.rounds, self.patience, self.score_tolerance)


def regenerate(
    cases: Sequence[Case],
    tools: RegenerationTools,
    bank: MemoryBank,
    settings: RegenerationSettings,
    *,
    run_step: StepRunner = call_step,
    on_event: Callable[[Event], None] = ignore,
    reviewer: Reviewer | None = None,
) -> list[Run]:
    """Work on all cases until each has nothing left to repair or its rounds are used up; the runs, in their
    order.

    `Run.best` is the picture to show. A run id that the bank knows is taken up where it stood. Whatever is
    raised (KeyboardInterrupt included) passes through, with everything committed so far kept. Raises
    InvalidInput for unusable prompts and repeated ids, ModelError for tools that break their contract, and
    the bank's own errors. `reviewer` is asked about every round, and never twice about one.
    """
    cases = _checked(cases)
    check_scorer_names(tools.scorers)
    record = run_settings(tools, settings)
    with ExitStack() as held:
        runs = [
            held.enter_context(
                bank.begin(case.run_id, kind=KIND, prompt=case.prompt, seed=case.seed, settings=record)
            )
            for case in cases
        ]
        _Loop(runs, tools, bank, settings, run_step, on_event, reviewer).run()
        return [bank.load(case.run_id) for case in cases]


def run_settings(tools: RegenerationTools, settings: RegenerationSettings) -> dict[str, object]:
    """What a run's result depends on: the record by which the bank knows that a resumed run is still the
    same."""
    limits = {
        "rounds": settings.rounds,
        "patience": settings.patience,
        "score_tolerance": settings.score_tolerance,
    }
    # Only where it is used: runs from before there was experience can be taken up again.
    return {**limits, **({"memory": True} if settings.memory else {}), **tools.describe()}


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

    @property
    def answered(self) -> tuple[Finding, ...]:
        """What the last round's prompt was to answer."""
        return _open_findings(self.rounds[:-1])

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
        reviewer: Reviewer | None,
    ) -> None:
        self.reviewer = reviewer
        self.states = [_State(run) for run in runs]
        self.tools, self.bank, self.settings = tools, bank, settings
        self.on_event, self.stepper = on_event, Stepper(run_step, on_event, settings.batch_size)
        self.gate = settings.gate(tools.selection_scorer.name)
        self.painter = painter_key(tools.generator.describe())

    def run(self) -> None:
        for index in range(1, self.settings.rounds + 1):
            # A resumed run waits here until the others have reached its round.
            states = [s for s in self.states if not s.finished and s.next_index == index]
            for step in STEPS:
                self._step(step, index, states)
            for state in states:
                self._close_round(state)

    def _step(self, step: Step, index: int, states: Sequence[_State]) -> None:
        self.stepper.take(
            step,
            index,
            states,
            pending=lambda state: _is_pending(step, index, state),
            commit=lambda chunk: self._commit(step, index, chunk),
            run_id=lambda state: state.run_id,
        )

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
        images, seconds = timed(tool.name, len(chunk), lambda: tool.generate(requests))
        call = ModelCall("generator", tool.name, seconds, len(chunk))
        for state, image in zip(chunk, images, strict=True):
            check_image(tool.name, image)
            digest = self.bank.commit_image(state.run_id, index, image, seconds, [call])
            state.update(image=digest)
            yield state

    def _diagnose(self, chunk: Sequence[_State]) -> Iterator[_State]:
        images, tool = self._images(chunk), self.tools.defender
        diagnoses, seconds = diagnoses_of(tool.name, images, lambda: tool.diagnose(images))
        for state, diagnosis in zip(chunk, diagnoses, strict=True):
            call = ModelCall("defender", tool.name, seconds, len(chunk), diagnosis.usage)
            self.bank.commit_diagnosis(state.run_id, state.last.index, diagnosis, seconds, [call])
            state.update(diagnosis=diagnosis)
            yield state

    def _score(self, chunk: Sequence[_State]) -> Iterator[_State]:
        images, prompts = self._images(chunk), [state.prompt for state in chunk]
        rows, calls = score_all(self.tools.scorers, images, prompts)
        for state, row in zip(chunk, rows, strict=True):
            self.bank.commit_scores(state.run_id, state.last.index, row, seconds_of(calls), calls)
            state.update(scores=row)
            yield state

    def _judge(self, chunk: Sequence[_State]) -> Iterator[_State]:
        for state in chunk:
            self._review(state)
            verdict = reviewed(state.rounds, self.gate)
            taught = round_trials(
                state.prompt, state.rounds, state.answered, self.gate.selection_score, self.painter
            )
            self.bank.commit_verdict(state.run_id, state.last.index, verdict, taught)
            state.update(verdict=verdict)
            yield state

    def _review(self, state: _State) -> None:
        """Ask a person about the last round, once."""
        if self.reviewer is None or state.last.review is not None:
            return
        proposed = reviewed(state.rounds, self.gate)
        review = self.reviewer(self.bank.load(state.run_id), proposed)
        if review is not None:
            self.bank.commit_review(state.run_id, state.last.index, review)
            state.update(review=review)

    def _revise(self, chunk: Sequence[_State]) -> Iterator[_State]:
        for state in (state for state in chunk if told(state.rounds)):
            own = Revision(clean_prompt(told(state.rounds)), reason="written by the person who was asked")
            self.bank.commit_revision(state.run_id, state.last.index, own, 0.0)
            state.update(revision=own)
            yield state
        if not (chunk := [state for state in chunk if state.last.revision is None]):
            return
        requests = [_revision_request(state, self._lessons(state)) for state in chunk]
        tool = self.tools.modifier
        revisions, seconds = timed(tool.name, len(chunk), lambda: tool.revise(requests))
        for state, revision in zip(chunk, revisions, strict=True):
            kept = replace(revision, prompt=usable_prompt(tool.name, revision.prompt))
            calls = written(tool.name, kept.usage, seconds, len(chunk))
            self.bank.commit_revision(state.run_id, state.last.index, kept, seconds, calls)
            state.update(revision=kept)
            yield state

    def _lessons(self, state: _State) -> tuple[Lesson, ...]:
        """What earlier runs taught about what was found."""
        findings = _open_findings(counted(state.rounds))
        if not self.settings.memory or not findings:
            return ()
        return self.bank.recall(state.run_id, state.last.index, 0, self.painter, symptoms(findings))

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


def _revision_request(state: _State, lessons: tuple[Lesson, ...]) -> RevisionRequest:
    earlier = state.rounds[:-1]
    return RevisionRequest(
        user_prompt=state.prompt,
        current_prompt=state.last.prompt,
        findings=_open_findings(counted(state.rounds)),
        earlier_prompts=tuple(dict.fromkeys(r.prompt for r in earlier)),
        tries=tuple(_try(r) for r in earlier),
        lessons=lessons,
        spent=sum((r.revision.usage for r in earlier if r.revision is not None), Usage()),
    )


def _try(item: Round) -> Try:
    findings = item.diagnosis.findings if item.diagnosis is not None else ()
    accepted = item.verdict is not None and item.verdict.accepted
    return Try(item.prompt, accepted, tuple(finding.phrase for finding in findings))


def _open_findings(rounds: Sequence[Round]) -> tuple[Finding, ...]:
    """What the next picture should answer: the last round's findings, or the best round's if that one was
    rolled back although nothing was found in it."""
    best = best_round(rounds)
    for candidate in (*rounds[-1:], best):
        if candidate is not None and candidate.diagnosis is not None and candidate.diagnosis.findings:
            return candidate.diagnosis.findings
    return ()


def _checked(cases: Sequence[Case]) -> list[Case]:
    cleaned = [replace(case, prompt=clean_prompt(case.prompt)) for case in cases]
    check_unique([case.run_id for case in cleaned], "prompt")
    return cleaned

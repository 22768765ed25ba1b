"""Drawing again: what a person does without a controller. Draw some pictures, keep the one that scores best.

The baseline against which the other loops are measured. Nobody looks for flaws here: a modifier, where there
is one, writes the next prompt without having seen the picture. Steps are committed as in the other loops, so
that a run goes on where it was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from contracts.errors import InvalidInput
from contracts.protocols import Generator, MemoryBank, PromptModifier, Scorer
from contracts.records import (
    CATEGORIES,
    Category,
    Finding,
    GenerationRequest,
    ModelCall,
    RevisionRequest,
    Round,
    Run,
    Usage,
    Verdict,
)
from contracts.scores import difference
from contracts.seeds import derive_seed
from controller.gate import ROUND_LIMIT, best_round, selection_score
from controller.prompt_rules import clean_prompt
from controller.steps import (
    Event,
    Stepper,
    StepRunner,
    call_step,
    check_batch_size,
    check_image,
    check_unique,
    ignore,
    score_all,
    seconds_of,
    timed,
    usable_prompt,
    written,
)

KIND = "regeneration"
STEPS = ("paint", "score", "judge", "revise")
UNSEEN = "the picture could look better"
"""All that a modifier is told which has not seen the picture."""


@dataclass(frozen=True)
class DrawingCase:
    """One prompt to draw. Scores are taken against `prompt`; what is painted first may say more."""

    run_id: str
    prompt: str
    seed: int
    first_prompt: str = ""
    """`prompt` if empty."""


@dataclass(frozen=True)
class DrawingTools:
    """Who paints, who chooses, and who writes the prompt of each draw after the first."""

    generator: Generator
    selection_scorer: Scorer
    modifier: PromptModifier | None = None
    """None leaves the prompt as it is."""

    def describe(self) -> dict[str, object]:
        """What a record needs to know about every part."""
        said: dict[str, object] = {
            "generator": dict(self.generator.describe()),
            "selection_scorer": dict(self.selection_scorer.describe()),
        }
        return said if self.modifier is None else {**said, "modifier": dict(self.modifier.describe())}


def draw(
    cases: Sequence[DrawingCase],
    tools: DrawingTools,
    bank: MemoryBank,
    draws: int,
    batch_size: int = 8,
    *,
    run_step: StepRunner = call_step,
    on_event: Callable[[Event], None] = ignore,
) -> list[Run]:
    """Draw each prompt `draws` times; the runs, in their order. `Run.best` has the highest selection score.

    The seed of a draw is that of the same round of regeneration. A run id that the bank knows is taken up
    where it stood. Raises InvalidInput for unusable prompts, numbers and repeated ids, ModelError for tools
    that break their contract, and the bank's own errors.
    """
    if draws < 1:
        raise InvalidInput(f"{draws} draws make no picture: choose 1 or more")
    check_batch_size(batch_size)
    check_unique([case.run_id for case in cases], "prompt")
    cases = [replace(case, prompt=clean_prompt(case.prompt)) for case in cases]
    record = {"draws": draws, **tools.describe()}
    with ExitStack() as held:
        states = []
        for case in cases:
            settings = {**record, "first_prompt": case.first_prompt or case.prompt}
            begun = bank.begin(case.run_id, kind=KIND, prompt=case.prompt, seed=case.seed, settings=settings)
            states.append(_State(case, held.enter_context(begun)))
        _Loop(states, tools, bank, draws, Stepper(run_step, on_event, batch_size)).run()
        return [bank.load(case.run_id) for case in cases]


class _State:
    """One run as the loop sees it: the committed rounds, kept in step with the bank."""

    def __init__(self, case: DrawingCase, run: Run) -> None:
        self.case, self.run_id = case, case.run_id
        self.rounds = list(run.rounds)
        self.finished = run.status == "finished"

    @property
    def last(self) -> Round:
        return self.rounds[-1]

    def update(self, **fields: object) -> None:
        self.rounds[-1] = replace(self.last, **fields)  # type: ignore[arg-type]


class _Loop:
    """The steps over all runs. Holds nothing that is not in the bank."""

    def __init__(
        self, states: Sequence[_State], tools: DrawingTools, bank: MemoryBank, draws: int, stepper: Stepper
    ) -> None:
        self.states, self.tools, self.bank = states, tools, bank
        self.draws, self.stepper = draws, stepper

    def run(self) -> None:
        for index in range(1, self.draws + 1):
            for step in STEPS:
                self._step(step, index)
        for state in self.states:
            if not state.finished:
                self.bank.finish(state.run_id, "finished")

    def _step(self, step: str, index: int) -> None:
        self.stepper.take(
            step,
            index,
            self.states,
            pending=lambda state: self._is_pending(step, index, state),
            commit=lambda chunk: getattr(self, f"_{step}")(chunk),
            run_id=lambda state: state.run_id,
        )

    def _is_pending(self, step: str, index: int, state: _State) -> bool:
        if len(state.rounds) != index:
            return step == "paint" and len(state.rounds) == index - 1
        now = state.last
        match step:
            case "paint":
                return now.image is None
            case "score":
                return now.scores is None
            case "judge":
                return now.verdict is None
            case _:
                return now.revision is None and index < self.draws and self.tools.modifier is not None

    def _paint(self, chunk: Sequence[_State]) -> Iterator[_State]:
        for state in chunk:
            if not state.rounds or state.last.image is not None:
                index = len(state.rounds) + 1
                seed = derive_seed(state.case.seed, index)
                prompt = self._prompt(state)
                state.rounds.append(self.bank.open_round(state.run_id, index, prompt, seed))
        requests = [GenerationRequest(state.last.prompt, state.last.seed) for state in chunk]
        tool = self.tools.generator
        images, seconds = timed(tool.name, len(chunk), lambda: tool.generate(requests))
        call = ModelCall("generator", tool.name, seconds, len(chunk))
        for state, image in zip(chunk, images, strict=True):
            check_image(tool.name, image)
            digest = self.bank.commit_image(state.run_id, state.last.index, image, seconds, [call])
            state.update(image=digest)
            yield state

    def _prompt(self, state: _State) -> str:
        if not state.rounds:
            return state.case.first_prompt or state.case.prompt
        return state.last.revision.prompt if state.last.revision else state.last.prompt

    def _score(self, chunk: Sequence[_State]) -> Iterator[_State]:
        images = [self.bank.image(state.last.image or "") for state in chunk]
        prompts = [state.case.prompt for state in chunk]
        rows, calls = score_all((self.tools.selection_scorer,), images, prompts)
        for state, row in zip(chunk, rows, strict=True):
            self.bank.commit_scores(state.run_id, state.last.index, row, seconds_of(calls), calls)
            state.update(scores=row)
            yield state

    def _judge(self, chunk: Sequence[_State]) -> Iterator[_State]:
        name = self.tools.selection_scorer.name
        for state in chunk:
            verdict = _verdict(state.last, state.rounds[:-1], name, self.draws)
            self.bank.commit_verdict(state.run_id, state.last.index, verdict)
            state.update(verdict=verdict)
            yield state

    def _revise(self, chunk: Sequence[_State]) -> Iterator[_State]:
        tool = self.tools.modifier
        assert tool is not None
        requests = [_unseen_request(state) for state in chunk]
        revisions, seconds = timed(tool.name, len(chunk), lambda: tool.revise(requests))
        for state, revision in zip(chunk, revisions, strict=True):
            kept = replace(revision, prompt=usable_prompt(tool.name, revision.prompt))
            calls = written(tool.name, kept.usage, seconds, len(chunk))
            self.bank.commit_revision(state.run_id, state.last.index, kept, seconds, calls)
            state.update(revision=kept)
            yield state


def _verdict(now: Round, earlier: Sequence[Round], name: str, draws: int) -> Verdict:
    """Accepted if nothing earlier scored as high."""
    score, best = selection_score(now, name), best_round(earlier)
    stop = ROUND_LIMIT if now.index >= draws else None
    if best is None:
        return Verdict(True, f"first draw, the one to beat: {name} {score.value:.4f}", stop)
    gain = difference(score, selection_score(best, name))
    better = "better" if gain > 0 else "not better"
    return Verdict(gain > 0, f"{better}: {name} {score.value:.4f}, {gain:+.4f} to the best", stop)


def _unseen_request(state: _State) -> RevisionRequest:
    """What a modifier is asked that has seen nothing: one kind of flaw after the other."""
    category = CATEGORIES[(state.last.index - 1) % len(CATEGORIES)]
    return RevisionRequest(
        user_prompt=state.case.prompt,
        current_prompt=state.last.prompt,
        findings=(_unseen(category),),
        earlier_prompts=tuple(dict.fromkeys(r.prompt for r in state.rounds[:-1])),
        spent=sum((r.revision.usage for r in state.rounds[:-1] if r.revision), Usage()),
    )


def _unseen(category: Category) -> Finding:
    return Finding(np.ones((1, 1), dtype=bool), "the picture", UNSEEN, category, 1.0)

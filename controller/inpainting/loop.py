"""The inpainting loop: diagnose, plan, say what should be seen, paint, look, decide; over many pictures.

After section 5 of the LEGION paper (arXiv 2503.15264), with three differences: every repair is judged on its
own and rolled back unless it is proven better, a region is given up after two tries, and no pixel outside the
planned regions ever changes.

A round begins with the picture as it stands (`Round.image`) and ends with the picture it leaves
(`Round.result`). Its regions are taken in groups whose supports do not touch: all regions of a group, of all
pictures, with all their candidates, are painted in one go. Then each region is decided after the other, on
the picture with the repairs accepted so far: no two repairs stay that were not seen together.

Every step's result is committed to the memory bank before the next step begins, and a step is pending as long
as its field of the record is None: a run that was interrupted goes on where it stood and repeats nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Literal, TypeAlias

import numpy as np

from contracts.errors import ModelError
from contracts.protocols import MemoryBank
from contracts.records import (
    Candidate,
    Diagnosis,
    Image,
    Lesson,
    Mask,
    ModelCall,
    RegionPlan,
    Repair,
    Run,
    Score,
    Usage,
    Verdict,
)
from contracts.seeds import derive_seed
from controller.compositing import composite, outside_digest
from controller.experience import painter_key, region_trials, symptoms
from controller.gate import severity
from controller.inpainting.parts import InpaintingCase, InpaintingSettings, InpaintingTools, checked
from controller.inpainting.planning import plan_round, round_verdict, with_thresholds
from controller.inpainting.state import Spot, State, groups, in_step, waves
from controller.region_gate import Look
from controller.region_prompts import region_prompts
from controller.regions import Plan, crop_request
from controller.reviewing import Reviewer
from controller.seams import seam
from controller.steps import (
    Event,
    RoundFinished,
    RunFinished,
    Stepper,
    StepRunner,
    call_step,
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

KIND = "inpainting"
Step: TypeAlias = Literal["diagnose", "score", "plan", "prompt", "paint", "look", "decide", "close"]
STEPS: tuple[Step, ...] = ("diagnose", "score", "plan", "prompt", "paint", "look", "decide", "close")


def inpaint(
    cases: Sequence[InpaintingCase],
    tools: InpaintingTools,
    bank: MemoryBank,
    settings: InpaintingSettings,
    *,
    run_step: StepRunner = call_step,
    on_event: Callable[[Event], None] = ignore,
    reviewer: Reviewer | None = None,
) -> list[Run]:
    """Repair all pictures until nothing is left to repair or their rounds are used up; the runs, in their
    order.

    `Run.result` is the picture to show; it is the original's, bit for bit, outside `Run.support`. A run id
    that the bank knows is taken up where it stood. Whatever is raised (KeyboardInterrupt included) passes
    through, with everything committed so far kept. Raises InvalidInput for unusable pictures, masks and
    prompts and for repeated ids, ModelError for tools that break their contract, and the bank's own errors
    (SettingsChanged if a known run began with another picture or mask). `reviewer` is asked about every
    round, and never twice about one.
    """
    cases = [checked(case) for case in cases]
    check_unique([case.run_id for case in cases], "picture")
    check_scorer_names(tools.scorers)
    common = settings.record() | tools.describe()
    with ExitStack() as held:
        states = []
        for case in cases:
            record = {**common, "picture": _digest(case.image)}
            record |= {"mask": _digest(case.mask), "protected": _digest(case.protected)}
            begun = bank.begin(case.run_id, kind=KIND, prompt=case.prompt, seed=case.seed, settings=record)
            states.append(State(case, held.enter_context(begun)))
        _Loop(states, tools, bank, settings, run_step, on_event, reviewer).run()
        return [bank.load(case.run_id) for case in cases]


class _Loop:
    """The steps over all runs. Holds nothing that is not in the bank."""

    def __init__(
        self,
        states: Sequence[State],
        tools: InpaintingTools,
        bank: MemoryBank,
        settings: InpaintingSettings,
        run_step: StepRunner,
        on_event: Callable[[Event], None],
        reviewer: Reviewer | None,
    ) -> None:
        self.reviewer = reviewer
        self.states, self.tools, self.bank, self.settings = states, tools, bank, settings
        self.on_event, self.stepper = on_event, Stepper(run_step, on_event, settings.batch_size)
        self.painter = painter_key(tools.inpainter.describe())

    def run(self) -> None:
        for index in range(1, self.settings.rounds + 1):
            # A resumed run waits here until the others have reached its round.
            states = [s for s in self.states if not s.finished and s.next_index == index]
            self._round(index, states)
            for state in states:
                self._end_round(state)

    def _round(self, index: int, states: Sequence[State]) -> None:
        def of_pictures(
            step: Step,
            pending: Callable[[State], bool],
            commit: Callable[[Sequence[State]], Iterator[State]],
        ) -> None:
            self.stepper.take(step, index, states, pending, commit, lambda state: state.run_id)

        def of_regions(
            step: Step,
            spots: Sequence[Spot],
            pending: Callable[[Spot], bool],
            commit: Callable[[Sequence[Spot]], Iterator[Spot]],
        ) -> None:
            self.stepper.take(
                step, index, spots, pending, commit, lambda spot: spot.state.run_id, noun="region"
            )

        of_pictures(
            "diagnose", lambda s: not _done(s, index, "diagnosis"), lambda c: self._diagnose(index, c)
        )
        of_pictures("score", lambda s: not _done(s, index, "scores"), self._score)
        of_pictures("plan", lambda s: not _done(s, index, "repairs"), self._plan)
        everywhere = [Spot(s, region) for s in states for region in range(1, len(s.repairs) + 1)]
        of_regions("prompt", everywhere, lambda spot: spot.repair.prompt is None, self._prompt)
        for group in in_step([groups(state) for state in states]):
            tries = range(1, self.settings.candidates + 1)
            paintings = [Spot(*spot[:2], candidate) for spot in group for candidate in tries]
            of_regions("paint", paintings, lambda spot: spot.painting is None, self._paint)
            # Decided one by one in each picture, so that each region is seen with those accepted before it.
            for wave in waves(group):
                looks = [Spot(*spot[:2], candidate) for spot in wave for candidate in tries]
                of_regions("look", looks, _not_seen, self._look)
                of_regions("decide", wave, lambda spot: spot.repair.accepted is None, self._decide)
        of_pictures("close", lambda s: s.last.verdict is None, self._close)

    def _diagnose(self, index: int, chunk: Sequence[State]) -> Iterator[State]:
        """The original is looked at; what a later round begins with was looked at when it was accepted."""
        for state in chunk:
            self._open(state, index)
        if index > 1:
            for state in chunk:
                yield self._diagnosed(state, replace(state.standing.diagnosis, usage=Usage()), ())
            return
        tool, images = self.tools.defender, [state.case.image for state in chunk]
        diagnoses, seconds = diagnoses_of(tool.name, images, lambda: tool.diagnose(images))
        for state, diagnosis in zip(chunk, diagnoses, strict=True):
            call = ModelCall("defender", tool.name, seconds, len(chunk), diagnosis.usage)
            yield self._diagnosed(state, diagnosis, [call])

    def _diagnosed(self, state: State, diagnosis: Diagnosis, calls: Sequence[ModelCall]) -> State:
        self.bank.commit_diagnosis(state.run_id, state.last.index, diagnosis, seconds_of(calls), calls)
        state.update(diagnosis=diagnosis)
        return state

    def _open(self, state: State, index: int) -> None:
        if len(state.rounds) < index:
            scene = state.scene if state.rounds else state.case.prompt
            seed = derive_seed(state.seed, index)
            state.rounds.append(self.bank.open_round(state.run_id, index, scene, seed))
        if state.last.image is None:
            image = state.case.image if index == 1 else self.bank.image(state.standing.picture)
            state.update(image=self.bank.commit_image(state.run_id, index, image, 0.0))

    def _score(self, chunk: Sequence[State]) -> Iterator[State]:
        if len(chunk[0].rounds) > 1:  # all of a chunk are in the same round
            for state in chunk:
                yield self._scored(state, state.standing.scores, ())
            return
        images, scenes = [state.case.image for state in chunk], [state.scene for state in chunk]
        rows, calls = score_all(self.tools.scorers, images, scenes)
        for state, row in zip(chunk, rows, strict=True):
            yield self._scored(state, row, calls)

    def _scored(self, state: State, scores: tuple[Score, ...], calls: Sequence[ModelCall]) -> State:
        self.bank.commit_scores(state.run_id, state.last.index, scores, seconds_of(calls), calls)
        state.update(scores=scores)
        return state

    def _plan(self, chunk: Sequence[State]) -> Iterator[State]:
        for state in chunk:
            diagnosis = state.last.diagnosis
            assert diagnosis is not None
            plan = self._plan_for(state, state.last.index, diagnosis)
            self.bank.commit_plan(state.run_id, state.last.index, plan.regions, plan.left_out)
            state.update(repairs=tuple(Repair(region) for region in plan.regions), left_out=plan.left_out)
            yield state

    def _plan_for(self, state: State, index: int, diagnosis: Diagnosis) -> Plan:
        settings = with_thresholds(self.settings, state.rounds)
        return plan_round(state.case, self.tools, settings, index, diagnosis, state.attempts, state.open_mask)

    def _prompt(self, chunk: Sequence[Spot]) -> Iterator[Spot]:
        """A run's regions one after the other, so that each knows what those before it took of the budget."""
        for wave in waves(chunk):
            yield from self._prompt_each(wave)

    def _prompt_each(self, chunk: Sequence[Spot]) -> Iterator[Spot]:
        """Prompts for regions of different runs."""
        tool = self.tools.modifier
        scenes = [spot.state.told or spot.state.scene for spot in chunk]
        plans = [spot.repair.plan for spot in chunk]
        earlier = [spot.state.earlier_prompts(plan.core) for spot, plan in zip(chunk, plans, strict=True)]
        lessons = [self._lessons(spot) for spot in chunk]
        spent = [spot.state.spent for spot in chunk]
        quality = self.settings.quality
        revisions, seconds = timed(
            tool.name,
            len(chunk),
            lambda: region_prompts(scenes, plans, tool, earlier, quality, lessons, spent),
        )
        for spot, revision in zip(chunk, revisions, strict=True):
            prompt = usable_prompt(tool.name, revision.prompt)
            state = spot.state
            answers, usage = revision.answers, revision.usage
            calls = written(tool.name, usage, seconds, len(chunk))
            self.bank.commit_region_prompt(
                state.run_id, state.last.index, spot.region, prompt, seconds, answers, calls
            )
            state.update_repair(spot.region, prompt=prompt, answers=answers, usage=usage)
            yield spot

    def _lessons(self, spot: Spot) -> tuple[Lesson, ...]:
        """What earlier runs taught about what was found here."""
        state, findings = spot.state, spot.repair.plan.findings
        if not self.settings.memory or not findings:
            return ()
        return self.bank.recall(state.run_id, state.last.index, spot.region, self.painter, symptoms(findings))

    def _paint(self, chunk: Sequence[Spot]) -> Iterator[Spot]:
        tool = self.tools.inpainter
        pictures = self._standing_pictures(chunk)
        seeds = [derive_seed(s.state.seed, s.state.last.index, s.region, s.candidate) for s in chunk]
        requests = [
            crop_request(
                picture,
                spot.repair.plan,
                spot.repair.prompt or "",
                seed,
                strength=self.settings.strength,
            )
            for spot, picture, seed in zip(chunk, pictures, seeds, strict=True)
        ]
        images, seconds = timed(tool.name, len(chunk), lambda: tool.inpaint(requests))
        call = ModelCall("inpainter", tool.name, seconds, len(chunk))
        for spot, image, seed in zip(chunk, images, seeds, strict=True):
            check_image(tool.name, image)
            state, region, candidate = spot
            digest = self.bank.commit_painting(
                state.run_id, state.last.index, region, candidate, image, seed, seconds, [call]
            )
            state.update_repair(region, candidates=(*spot.repair.candidates, Candidate(seed, digest)))
            yield spot

    def _look(self, chunk: Sequence[Spot]) -> Iterator[Spot]:
        tool = self.tools.defender
        befores = self._standing_pictures(chunk)
        afters = [self._with_repair(*both) for both in zip(chunk, befores, strict=True)]
        diagnoses, looking = diagnoses_of(tool.name, afters, lambda: tool.diagnose(afters))
        rows, scored = score_all(self.tools.scorers, afters, [spot.state.scene for spot in chunk])
        for spot, before, after, diagnosis, scores in zip(
            chunk, befores, afters, diagnoses, rows, strict=True
        ):
            state, region, candidate = spot
            painting, plan, standing = spot.painting, spot.repair.plan, spot.state.standing
            assert painting is not None
            now = _measured(after, plan, diagnosis, scores[0])
            then = _measured(before, plan, standing.diagnosis, standing.scores[0])
            verdict = self.tools.gate.judge(plan, then, now, state.first_scores[0])
            seen = replace(
                painting,
                diagnosis=diagnosis,
                scores=scores,
                seam=now.seam,
                outside=now.outside,
                accepted=verdict.accepted,
                reason=verdict.reason,
            )
            calls = [ModelCall("defender", tool.name, looking, len(chunk), diagnosis.usage), *scored]
            self.bank.commit_look(
                state.run_id, state.last.index, region, candidate, seen, seconds_of(calls), calls
            )
            candidates = list(spot.repair.candidates)
            candidates[candidate - 1] = seen
            state.update_repair(region, candidates=tuple(candidates))
            yield spot

    def _decide(self, chunk: Sequence[Spot]) -> Iterator[Spot]:
        for spot in chunk:
            state, region, repair = spot.state, spot.region, spot.repair
            chosen = _best(repair.candidates)
            picture = None
            if chosen is not None:
                (before,) = self._standing_pictures([spot])
                picture = self._with_repair(Spot(state, region, chosen), before)
            decided = replace(
                repair,
                accepted=chosen is not None,
                reason=repair.candidates[(chosen or 1) - 1].reason,
                chosen=chosen,
            )
            given = state.earlier_answers(repair.plan.core)
            taught = region_trials(decided, state.standing.scores, given, self.painter)
            digest = self.bank.commit_repair(state.run_id, state.last.index, region, decided, picture, taught)
            state.update_repair(region, **{**vars(decided), "picture": digest})
            yield spot

    def _close(self, chunk: Sequence[State]) -> Iterator[State]:
        for state in chunk:
            self._review(state)
            standing = state.standing
            if state.last.result is None:
                proof = self._proof(state, standing.picture)
                self.bank.commit_result(state.run_id, state.last.index, standing.picture, proof)
                state.update(result=standing.picture, outside=proof)
            verdict = self._verdict(state)
            self.bank.commit_verdict(state.run_id, state.last.index, verdict)
            state.update(verdict=verdict)
            yield state

    def _verdict(self, state: State) -> Verdict:
        """The word on a round whose regions are all decided."""
        found = state.standing.diagnosis
        following = self._plan_for(state, state.last.index + 1, found)
        return round_verdict(state, found, following, self.settings.rounds)

    def _review(self, state: State) -> None:
        """Ask a person about the last round, once and before anything of its end is kept."""
        if self.reviewer is None or state.last.review is not None or state.last.result is not None:
            return
        review = self.reviewer(self.bank.load(state.run_id), self._verdict(state))
        if review is not None:
            self.bank.commit_review(state.run_id, state.last.index, review)
            state.update(review=review)

    def _proof(self, state: State, digest: str) -> str:
        """The digest of all that no region was allowed to change, if it is still the original's."""
        support = state.support
        proof = outside_digest(self.bank.image(digest), support)
        if proof != outside_digest(state.case.image, support):
            raise ModelError(f"pixels outside the planned regions of run {state.run_id} changed: {digest}")
        return proof

    def _end_round(self, state: State) -> None:
        verdict = state.last.verdict
        assert verdict is not None
        self.on_event(RoundFinished(state.run_id, state.last.index, self.settings.rounds, verdict.accepted))
        if verdict.stop is None:
            return
        self.bank.finish(state.run_id, "finished")
        state.finished = True
        done = sum(s.finished for s in self.states)
        self.on_event(RunFinished(state.run_id, state.last.index, verdict.stop, done, len(self.states)))

    def _standing_pictures(self, chunk: Sequence[Spot]) -> list[Image]:
        loaded = {spot.state.run_id: spot.state.standing.picture for spot in chunk}
        images = {digest: self.bank.image(digest) for digest in set(loaded.values())}
        return [images[loaded[spot.state.run_id]] for spot in chunk]

    def _with_repair(self, spot: Spot, before: Image) -> Image:
        painting = spot.painting
        assert painting is not None
        painted = self.bank.image(painting.painted)
        return composite(before, painted, spot.repair.plan, match_colors=self.settings.match_colors)


def _done(state: State, index: int, name: str) -> bool:
    """Has the field of round `index` been committed?"""
    return len(state.rounds) >= index and getattr(state.rounds[index - 1], name) is not None


def _not_seen(spot: Spot) -> bool:
    painting = spot.painting
    return painting is None or painting.accepted is None


def _best(candidates: Sequence[Candidate]) -> int | None:
    """Number of the accepted candidate with the least left to find, then the highest selection score."""
    accepted = [n for n, candidate in enumerate(candidates, start=1) if candidate.accepted]
    return min(accepted, key=lambda n: (*_rank(candidates[n - 1]), n), default=None)


def _rank(candidate: Candidate) -> tuple[float, float]:
    assert candidate.diagnosis is not None and candidate.scores is not None
    return severity(candidate.diagnosis), -candidate.scores[0].value


def _measured(image: Image, plan: RegionPlan, diagnosis: Diagnosis, score: Score) -> Look:
    return Look(diagnosis, score, seam(image, plan.weights), outside_digest(image, plan.support))


def _digest(pixels: Image | Mask | None) -> str | None:
    """What a record keeps of a picture or mask to know it again."""
    if pixels is None:
        return None
    content = repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from contracts.errors import InvalidInput, ModelError
from contracts.protocols import Inpainter, MemoryBank
from contracts.records import (
    Answer,
    Candidate,
    Diagnosis,
    Finding,
    Image,
    Lesson,
    Mask,
    RegionPlan,
    Repair,
    Round,
    Run,
    Score,
    Verdict,
)
from contracts.seeds import derive_seed, picture_seed
from controller import masks
from controller.compositing import Source, SourceMap, composite, outside_digest
from controller.experience import painter_key, region_trials, symptoms
from controller.gate import NO_ARTIFACTS, ROUND_LIMIT, severity
from controller.prompt_rules import clean_prompt
from controller.region_gate import Attempt, Look, RegionGate, given_up
from controller.region_prompts import described_scene, region_prompts
from controller.regions import (
    EMPTY_MASK,
    PaintingSize,
    Plan,
    RegionSettings,
    check_area,
    crop_request,
    group_disjoint,
    plan_regions,
)
from controller.seams import seam
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
    timed,
    usable_prompt,
)

KIND = "inpainting"
Step: TypeAlias = Literal["diagnose", "score", "plan", "prompt", "paint", "look", "decide", "close"]
STEPS: tuple[Step, ...] = ("diagnose", "score", "plan", "prompt", "paint", "look", "decide", "close")
NOTHING_TO_TRY = "nothing left to try"
MASK_DONE = "everything in the mask is repainted"


@dataclass(frozen=True, eq=False)
class InpaintingCase:
    """One picture to repair. The prompt never changes; where it is empty, the defender's words on the first
    picture take its place."""

    run_id: str
    image: Image
    """(H, W, 3)."""
    prompt: str = ""
    seed: int = 0
    mask: Mask | None = None
    """(H, W): exactly these pixels may change; None leaves the choice to the defender."""
    protected: Mask | None = None
    """(H, W): these pixels never change."""


class Aim(Protocol):
    """Which findings a round repairs."""

    name: str

    def findings(self, run_id: str, round_index: int, diagnosis: Diagnosis) -> Sequence[Finding]:
        """What to plan for, given what the defender found. The same call must give the same answer."""
        ...


class AsFound:
    """Repair what the defender found."""

    name = "as found"

    def findings(self, run_id: str, round_index: int, diagnosis: Diagnosis) -> Sequence[Finding]:
        """The diagnosis's own findings."""
        return diagnosis.findings


@dataclass(frozen=True, kw_only=True)
class InpaintingTools(Tools):
    """The parts of the loop."""

    inpainter: Inpainter
    gate: RegionGate
    aim: Aim = field(default_factory=AsFound)

    def describe(self) -> dict[str, object]:
        """What a record needs to know about every part."""
        return {
            "inpainter": dict(self.inpainter.describe()),
            **super().describe(),
            "gate": dict(self.gate.describe()),
            "aim": self.aim.name,
        }


@dataclass(frozen=True)
class InpaintingSettings:
    """How long, how often and how boldly. Raises InvalidInput for numbers that make no loop."""

    rounds: int = 2
    """Rounds at most, 1 or more."""
    candidates: int = 2
    """Paintings of each region, of which the gate takes the best or none, 1 or more."""
    tries: int = 2
    """Rounds in which a region is painted before it is given up, 1 or more."""
    strength: float = 1.0
    """How much of the picture under the mask is given up for noise, above 0 up to 1."""
    quality: str = ""
    """Words that every region is painted with, after the scene: what a good picture of it has in any case."""
    match_colors: bool = True
    """Whether a painted crop is shifted to the colors around the region."""
    regions: RegionSettings = field(default_factory=RegionSettings)
    batch_size: int = 8
    """Crops or pictures per model call. Changes speed and memory, not results, so it is no part of a run's
    record."""
    memory: bool = False
    """Whether the words for a region look up what helped in earlier runs. What a run teaches is kept in any
    case."""

    def __post_init__(self) -> None:
        for name in ("rounds", "candidates", "tries"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} {getattr(self, name)} cannot be used: choose 1 or more")
        if not 0 < self.strength <= 1:
            raise InvalidInput(f"strength {self.strength} cannot be used: choose above 0 up to 1")
        check_batch_size(self.batch_size)

    def record(self) -> dict[str, object]:
        """The settings that a result depends on."""
        values = asdict(self)
        del values["batch_size"]
        if not self.memory:  # runs from before there was experience can be taken up again
            del values["memory"]
        return values


def inpaint(
    cases: Sequence[InpaintingCase],
    tools: InpaintingTools,
    bank: MemoryBank,
    settings: InpaintingSettings,
    *,
    run_step: StepRunner = call_step,
    on_event: Callable[[Event], None] = ignore,
) -> list[Run]:
    """Repair all pictures until nothing is left to repair or their rounds are used up; the runs, in their
    order.

    `Run.result` is the picture to show; it is the original's, bit for bit, outside `Run.support`. A run id
    that the bank knows is taken up where it stood. Whatever is raised (KeyboardInterrupt included) passes
    through, with everything committed so far kept. Raises InvalidInput for unusable pictures, masks and
    prompts and for repeated ids, ModelError for tools that break their contract, and the bank's own errors
    (SettingsChanged if a known run began with another picture or mask).
    """
    cases = [_checked(case) for case in cases]
    check_unique([case.run_id for case in cases], "picture")
    check_scorer_names(tools.scorers)
    common = settings.record() | tools.describe()
    with ExitStack() as held:
        states = []
        for case in cases:
            record = {**common, "picture": _digest(case.image)}
            record |= {"mask": _digest(case.mask), "protected": _digest(case.protected)}
            begun = bank.begin(case.run_id, kind=KIND, prompt=case.prompt, seed=case.seed, settings=record)
            states.append(_State(case, held.enter_context(begun)))
        _Loop(states, tools, bank, settings, run_step, on_event).run()
        return [bank.load(case.run_id) for case in cases]


class Preview(NamedTuple):
    """What a first round would do."""

    diagnosis: Diagnosis
    plan: Plan
    prompts: tuple[str, ...]
    """One per region of the plan."""


def preview(
    cases: Sequence[InpaintingCase], tools: InpaintingTools, settings: InpaintingSettings
) -> list[Preview]:
    """What the first round of `inpaint` would repair, in which order and with which words; nothing is painted
    and nothing recorded. Raises as `inpaint` does."""
    cases = [_checked(case) for case in cases]
    images = [case.image for case in cases]
    diagnoses, _ = (
        diagnoses_of(tools.defender.name, images, lambda: tools.defender.diagnose(images))
        if cases
        else ([], 0.0)
    )
    previews = []
    for case, diagnosis in zip(cases, diagnoses, strict=True):
        plan = _plan(case, tools, settings, 1, diagnosis, (), case.mask)
        scenes = [case.prompt or described_scene(diagnosis.findings)] * len(plan.regions)
        revisions = (
            region_prompts(scenes, plan.regions, tools.modifier, quality=settings.quality)
            if plan.regions
            else []
        )
        previews.append(Preview(diagnosis, plan, tuple(revision.prompt for revision in revisions)))
    return previews


def scene_of(run: Run) -> str:
    """What the picture shows: the person's prompt, or the defender's words on the first picture.

    Empty as long as the run has neither.
    """
    if run.prompt or not run.rounds or run.rounds[0].diagnosis is None:
        return run.prompt
    return described_scene(run.rounds[0].diagnosis.findings)


def source_map(run: Run, shape: tuple[int, int]) -> SourceMap:
    """Where every pixel of a run's result of `shape` (H, W) comes from, as far as the run has come."""
    model = run.settings.get("inpainter")
    name = str(model.get("name", "")) if isinstance(model, Mapping) else ""
    result = SourceMap.pristine(shape)
    for item in run.rounds:
        for number, repair in enumerate(item.repairs or (), start=1):
            if repair.chosen is not None:
                seed = repair.candidates[repair.chosen - 1].seed
                source = Source(item.index, number, repair.chosen, seed, name, repair.prompt or "")
                result = result.with_region(repair.plan.support, source)
    return result


class _Standing(NamedTuple):
    """The picture as it stands, and what is known about it."""

    picture: str
    diagnosis: Diagnosis
    scores: tuple[Score, ...]


class _State:
    """One run as the loop sees it: the committed rounds, kept in step with the bank."""

    def __init__(self, case: InpaintingCase, run: Run) -> None:
        self.case, self.run_id = case, case.run_id
        self.seed = picture_seed(case.seed, repr(case.image.shape).encode() + case.image.tobytes())
        self.rounds = list(run.rounds)
        self.finished = run.status == "finished"

    @property
    def last(self) -> Round:
        return self.rounds[-1]

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """The regions of the round that is under way."""
        return self.last.repairs or ()

    @property
    def next_index(self) -> int:
        """The round that has a step pending."""
        if self.rounds and (self.last.verdict is None or self.last.verdict.stop):
            return self.last.index
        return len(self.rounds) + 1

    @property
    def scene(self) -> str:
        first = self.rounds[0].diagnosis
        assert first is not None
        return self.case.prompt or described_scene(first.findings)

    @property
    def standing(self) -> _Standing:
        """The latest accepted repair's picture, or the original."""
        for item in reversed(self.rounds):
            for repair in reversed(item.repairs or ()):
                if repair.chosen is not None and repair.picture is not None:
                    look = repair.candidates[repair.chosen - 1]
                    assert look.diagnosis is not None and look.scores is not None
                    return _Standing(repair.picture, look.diagnosis, look.scores)
        first = self.rounds[0]
        assert first.image is not None and first.diagnosis is not None and first.scores is not None
        return _Standing(first.image, first.diagnosis, first.scores)

    @property
    def attempts(self) -> list[Attempt]:
        """Every region that was decided, oldest first."""
        return [
            Attempt(repair.plan.core, repair.accepted, repair.reason, item.index)
            for item in self.rounds
            for repair in item.repairs or ()
            if repair.accepted is not None
        ]

    def earlier_prompts(self, core: Mask) -> list[str]:
        """What the painter was told about this place in earlier rounds, oldest first."""
        return [repair.prompt for repair in self._earlier(core) if repair.prompt is not None]

    def earlier_answers(self, core: Mask) -> list[Answer]:
        """What of it was to answer a finding."""
        return [answer for repair in self._earlier(core) for answer in repair.answers]

    def _earlier(self, core: Mask) -> list[Repair]:
        """This place in earlier rounds."""
        return [
            repair
            for item in self.rounds[:-1]
            for repair in item.repairs or ()
            if masks.same_region(core, repair.plan.core)
        ]

    @property
    def support(self) -> Mask:
        """Every pixel that a region planned so far was allowed to change, (H, W)."""
        total = np.zeros(self.case.image.shape[:2], dtype=bool)
        for item in self.rounds:
            for repair in item.repairs or ():
                total |= repair.plan.support
        return total

    @property
    def open_mask(self) -> Mask | None:
        """The part of the person's mask that is not repainted yet, or is still found flawed."""
        if self.case.mask is None:
            return None
        found = self.standing.diagnosis.union(self.case.mask.shape)
        left = self.case.mask.copy()
        for item in self.rounds:
            for repair in item.repairs or ():
                if repair.accepted and not (repair.plan.support & found).any():
                    left &= ~repair.plan.support
        return left

    def update(self, **fields: object) -> None:
        self.rounds[-1] = replace(self.last, **fields)  # type: ignore[arg-type]

    def update_repair(self, region: int, **fields: object) -> None:
        repairs = list(self.repairs)
        repairs[region - 1] = replace(repairs[region - 1], **fields)  # type: ignore[arg-type]
        self.update(repairs=tuple(repairs))


class _Spot(NamedTuple):
    """One region of a picture, and one painting of it; candidate 0 stands for all of them. Both count from
    1."""

    state: _State
    region: int
    candidate: int = 0

    @property
    def repair(self) -> Repair:
        return self.state.repairs[self.region - 1]

    @property
    def painting(self) -> Candidate | None:
        done = self.repair.candidates
        return done[self.candidate - 1] if len(done) >= self.candidate else None


class _Loop:
    """The steps over all runs. Holds nothing that is not in the bank."""

    def __init__(
        self,
        states: Sequence[_State],
        tools: InpaintingTools,
        bank: MemoryBank,
        settings: InpaintingSettings,
        run_step: StepRunner,
        on_event: Callable[[Event], None],
    ) -> None:
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

    def _round(self, index: int, states: Sequence[_State]) -> None:
        def of_pictures(
            step: Step,
            pending: Callable[[_State], bool],
            commit: Callable[[Sequence[_State]], Iterator[_State]],
        ) -> None:
            self.stepper.take(step, index, states, pending, commit, lambda state: state.run_id)

        def of_regions(
            step: Step,
            spots: Sequence[_Spot],
            pending: Callable[[_Spot], bool],
            commit: Callable[[Sequence[_Spot]], Iterator[_Spot]],
        ) -> None:
            self.stepper.take(
                step, index, spots, pending, commit, lambda spot: spot.state.run_id, noun="region"
            )

        of_pictures(
            "diagnose", lambda s: not _done(s, index, "diagnosis"), lambda c: self._diagnose(index, c)
        )
        of_pictures("score", lambda s: not _done(s, index, "scores"), self._score)
        of_pictures("plan", lambda s: not _done(s, index, "repairs"), self._plan)
        everywhere = [_Spot(s, region) for s in states for region in range(1, len(s.repairs) + 1)]
        of_regions("prompt", everywhere, lambda spot: spot.repair.prompt is None, self._prompt)
        for group in _in_step([_groups(state) for state in states]):
            tries = range(1, self.settings.candidates + 1)
            paintings = [_Spot(*spot[:2], candidate) for spot in group for candidate in tries]
            of_regions("paint", paintings, lambda spot: spot.painting is None, self._paint)
            # Decided one by one in each picture, so that each region is seen with those accepted before it.
            for wave in _waves(group):
                looks = [_Spot(*spot[:2], candidate) for spot in wave for candidate in tries]
                of_regions("look", looks, _not_seen, self._look)
                of_regions("decide", wave, lambda spot: spot.repair.accepted is None, self._decide)
        of_pictures("close", lambda s: s.last.verdict is None, self._close)

    def _diagnose(self, index: int, chunk: Sequence[_State]) -> Iterator[_State]:
        """The original is looked at; what a later round begins with was looked at when it was accepted."""
        for state in chunk:
            self._open(state, index)
        if index > 1:
            for state in chunk:
                yield self._diagnosed(state, state.standing.diagnosis, 0.0)
            return
        tool, images = self.tools.defender, [state.case.image for state in chunk]
        diagnoses, seconds = diagnoses_of(tool.name, images, lambda: tool.diagnose(images))
        for state, diagnosis in zip(chunk, diagnoses, strict=True):
            yield self._diagnosed(state, diagnosis, seconds)

    def _diagnosed(self, state: _State, diagnosis: Diagnosis, seconds: float) -> _State:
        self.bank.commit_diagnosis(state.run_id, state.last.index, diagnosis, seconds)
        state.update(diagnosis=diagnosis)
        return state

    def _open(self, state: _State, index: int) -> None:
        if len(state.rounds) < index:
            scene = state.scene if state.rounds else state.case.prompt
            seed = derive_seed(state.seed, index)
            state.rounds.append(self.bank.open_round(state.run_id, index, scene, seed))
        if state.last.image is None:
            image = state.case.image if index == 1 else self.bank.image(state.standing.picture)
            state.update(image=self.bank.commit_image(state.run_id, index, image, 0.0))

    def _score(self, chunk: Sequence[_State]) -> Iterator[_State]:
        if len(chunk[0].rounds) > 1:  # all of a chunk are in the same round
            for state in chunk:
                yield self._scored(state, state.standing.scores, 0.0)
            return
        images, scenes = [state.case.image for state in chunk], [state.scene for state in chunk]
        rows, seconds = score_all(self.tools.scorers, images, scenes)
        for state, row in zip(chunk, rows, strict=True):
            yield self._scored(state, row, seconds)

    def _scored(self, state: _State, scores: tuple[Score, ...], seconds: float) -> _State:
        self.bank.commit_scores(state.run_id, state.last.index, scores, seconds)
        state.update(scores=scores)
        return state

    def _plan(self, chunk: Sequence[_State]) -> Iterator[_State]:
        for state in chunk:
            diagnosis = state.last.diagnosis
            assert diagnosis is not None
            plan = self._plan_for(state, state.last.index, diagnosis)
            self.bank.commit_plan(state.run_id, state.last.index, plan.regions, plan.left_out)
            state.update(repairs=tuple(Repair(region) for region in plan.regions), left_out=plan.left_out)
            yield state

    def _plan_for(self, state: _State, index: int, diagnosis: Diagnosis) -> Plan:
        return _plan(state.case, self.tools, self.settings, index, diagnosis, state.attempts, state.open_mask)

    def _prompt(self, chunk: Sequence[_Spot]) -> Iterator[_Spot]:
        tool = self.tools.modifier
        scenes = [spot.state.scene for spot in chunk]
        plans = [spot.repair.plan for spot in chunk]
        earlier = [spot.state.earlier_prompts(plan.core) for spot, plan in zip(chunk, plans, strict=True)]
        lessons = [self._lessons(spot) for spot in chunk]
        quality = self.settings.quality
        revisions, seconds = timed(
            tool.name, len(chunk), lambda: region_prompts(scenes, plans, tool, earlier, quality, lessons)
        )
        for spot, revision in zip(chunk, revisions, strict=True):
            prompt = usable_prompt(tool.name, revision.prompt)
            state = spot.state
            answers = revision.answers
            self.bank.commit_region_prompt(
                state.run_id, state.last.index, spot.region, prompt, seconds, answers
            )
            state.update_repair(spot.region, prompt=prompt, answers=answers)
            yield spot

    def _lessons(self, spot: _Spot) -> tuple[Lesson, ...]:
        """What earlier runs taught about what was found here."""
        state, findings = spot.state, spot.repair.plan.findings
        if not self.settings.memory or not findings:
            return ()
        return self.bank.recall(state.run_id, state.last.index, spot.region, self.painter, symptoms(findings))

    def _paint(self, chunk: Sequence[_Spot]) -> Iterator[_Spot]:
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
        for spot, image, seed in zip(chunk, images, seeds, strict=True):
            check_image(tool.name, image)
            state, region, candidate = spot
            digest = self.bank.commit_painting(
                state.run_id, state.last.index, region, candidate, image, seed, seconds
            )
            state.update_repair(region, candidates=(*spot.repair.candidates, Candidate(seed, digest)))
            yield spot

    def _look(self, chunk: Sequence[_Spot]) -> Iterator[_Spot]:
        tool = self.tools.defender
        befores = self._standing_pictures(chunk)
        afters = [self._with_repair(*both) for both in zip(chunk, befores, strict=True)]
        diagnoses, looking = diagnoses_of(tool.name, afters, lambda: tool.diagnose(afters))
        rows, scoring = score_all(self.tools.scorers, afters, [spot.state.scene for spot in chunk])
        for spot, before, after, diagnosis, scores in zip(
            chunk, befores, afters, diagnoses, rows, strict=True
        ):
            state, region, candidate = spot
            painting, plan, standing = spot.painting, spot.repair.plan, spot.state.standing
            assert painting is not None
            now = _measured(after, plan, diagnosis, scores[0])
            verdict = self.tools.gate.judge(
                plan, _measured(before, plan, standing.diagnosis, standing.scores[0]), now
            )
            seen = replace(
                painting,
                diagnosis=diagnosis,
                scores=scores,
                seam=now.seam,
                outside=now.outside,
                accepted=verdict.accepted,
                reason=verdict.reason,
            )
            self.bank.commit_look(state.run_id, state.last.index, region, candidate, seen, looking + scoring)
            candidates = list(spot.repair.candidates)
            candidates[candidate - 1] = seen
            state.update_repair(region, candidates=tuple(candidates))
            yield spot

    def _decide(self, chunk: Sequence[_Spot]) -> Iterator[_Spot]:
        for spot in chunk:
            state, region, repair = spot.state, spot.region, spot.repair
            chosen = _best(repair.candidates)
            picture = None
            if chosen is not None:
                (before,) = self._standing_pictures([spot])
                picture = self._with_repair(_Spot(state, region, chosen), before)
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

    def _close(self, chunk: Sequence[_State]) -> Iterator[_State]:
        for state in chunk:
            standing = state.standing
            if state.last.result is None:
                proof = self._proof(state, standing.picture)
                self.bank.commit_result(state.run_id, state.last.index, standing.picture, proof)
                state.update(result=standing.picture, outside=proof)
            following = self._plan_for(state, state.last.index + 1, standing.diagnosis)
            verdict = _verdict(state, standing.diagnosis, following, self.settings.rounds)
            self.bank.commit_verdict(state.run_id, state.last.index, verdict)
            state.update(verdict=verdict)
            yield state

    def _proof(self, state: _State, digest: str) -> str:
        """The digest of all that no region was allowed to change, if it is still the original's."""
        support = state.support
        proof = outside_digest(self.bank.image(digest), support)
        if proof != outside_digest(state.case.image, support):
            raise ModelError(f"pixels outside the planned regions of run {state.run_id} changed: {digest}")
        return proof

    def _end_round(self, state: _State) -> None:
        verdict = state.last.verdict
        assert verdict is not None
        self.on_event(RoundFinished(state.run_id, state.last.index, self.settings.rounds, verdict.accepted))
        if verdict.stop is None:
            return
        self.bank.finish(state.run_id, "finished")
        state.finished = True
        done = sum(s.finished for s in self.states)
        self.on_event(RunFinished(state.run_id, state.last.index, verdict.stop, done, len(self.states)))

    def _standing_pictures(self, chunk: Sequence[_Spot]) -> list[Image]:
        loaded = {spot.state.run_id: spot.state.standing.picture for spot in chunk}
        images = {digest: self.bank.image(digest) for digest in set(loaded.values())}
        return [images[loaded[spot.state.run_id]] for spot in chunk]

    def _with_repair(self, spot: _Spot, before: Image) -> Image:
        painting = spot.painting
        assert painting is not None
        painted = self.bank.image(painting.painted)
        return composite(before, painted, spot.repair.plan, match_colors=self.settings.match_colors)


def _plan(
    case: InpaintingCase,
    tools: InpaintingTools,
    settings: InpaintingSettings,
    index: int,
    diagnosis: Diagnosis,
    attempts: Sequence[Attempt],
    open_mask: Mask | None,
) -> Plan:
    """What round `index` repairs in a picture of which `diagnosis` is known."""
    if open_mask is not None and not open_mask.any():
        return Plan(())
    shape = (case.image.shape[0], case.image.shape[1])
    return plan_regions(
        tools.aim.findings(case.run_id, index, diagnosis),
        shape,
        settings.regions,
        PaintingSize(*tools.inpainter.native_size, tools.inpainter.alignment),
        user_mask=open_mask,
        protected=case.protected,
        given_up=given_up(attempts, settings.tries),
    )


def _verdict(state: _State, found: Diagnosis, following: Plan, rounds: int) -> Verdict:
    """The word on a round whose regions are all decided, and whether another one follows."""
    accepted, planned = sum(bool(r.accepted) for r in state.repairs), len(state.repairs)
    if planned:
        words = f"{accepted} of {planned} region{'' if planned == 1 else 's'} repaired"
    else:
        words = "no region to repair"
    stop = None
    if not following.regions:
        stop = _end(state, found)
        left = dict.fromkeys(x.reason for x in following.left_out)
        words += "".join(f"; {reason}" for reason in left)
    elif state.last.index >= rounds:
        stop = ROUND_LIMIT
    return Verdict(accepted > 0, words, stop)


def _end(state: _State, found: Diagnosis) -> str:
    """Why nothing is left to repair."""
    if (mask := state.open_mask) is not None and state.case.mask is not None:
        return NOTHING_TO_TRY if mask.any() else MASK_DONE
    return NOTHING_TO_TRY if found.findings else NO_ARTIFACTS


def _done(state: _State, index: int, name: str) -> bool:
    """Has the field of round `index` been committed?"""
    return len(state.rounds) >= index and getattr(state.rounds[index - 1], name) is not None


def _not_seen(spot: _Spot) -> bool:
    painting = spot.painting
    return painting is None or painting.accepted is None


def _groups(state: _State) -> list[list[_Spot]]:
    """The regions of a round in groups whose supports do not touch, in the plan's order."""
    numbers = {id(repair.plan): number for number, repair in enumerate(state.repairs, start=1)}
    groups = group_disjoint([repair.plan for repair in state.repairs])
    return [[_Spot(state, numbers[id(plan)]) for plan in group] for group in groups]


def _in_step(groups: Sequence[Sequence[Sequence[_Spot]]]) -> Iterator[list[_Spot]]:
    """The first group of every picture together, then the second of those that have one, and so on."""
    for turn in zip_longest(*groups, fillvalue=()):
        yield [spot for group in turn for spot in group]


def _waves(group: Sequence[_Spot]) -> list[list[_Spot]]:
    """At most one region of each picture at a time, in order."""
    by_run: dict[str, list[_Spot]] = {}
    for spot in group:
        by_run.setdefault(spot.state.run_id, []).append(spot)
    return [[s for s in turn if s is not None] for turn in zip_longest(*by_run.values())]


def _best(candidates: Sequence[Candidate]) -> int | None:
    """Number of the accepted candidate with the least left to find, then the highest selection score."""
    accepted = [n for n, candidate in enumerate(candidates, start=1) if candidate.accepted]
    return min(accepted, key=lambda n: (*_rank(candidates[n - 1]), n), default=None)


def _rank(candidate: Candidate) -> tuple[float, float]:
    assert candidate.diagnosis is not None and candidate.scores is not None
    return severity(candidate.diagnosis), -candidate.scores[0].value


def _measured(image: Image, plan: RegionPlan, diagnosis: Diagnosis, score: Score) -> Look:
    return Look(diagnosis, score, seam(image, plan.weights), outside_digest(image, plan.support))


def _checked(case: InpaintingCase) -> InpaintingCase:
    image = case.image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InvalidInput(
            f"a picture of {image.dtype} {image.shape} cannot be repaired: use uint8 (H, W, 3)"
        )
    check_area(case.mask, image.shape[:2], "mask")
    check_area(case.protected, image.shape[:2], "protected mask")
    if case.mask is not None and not case.mask.any():
        raise InvalidInput(EMPTY_MASK)
    return replace(case, prompt=clean_prompt(case.prompt) if case.prompt.strip() else "")


def _digest(pixels: Image | Mask | None) -> str | None:
    """What a record keeps of a picture or mask to know it again."""
    if pixels is None:
        return None
    content = repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]

"""A run as the inpainting loop sees it, and its regions in the order in which they are taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from contracts.records import Answer, Candidate, Diagnosis, Mask, Repair, Round, Run, Score, Usage
from contracts.seeds import picture_seed
from controller import masks
from controller.inpainting.parts import InpaintingCase
from controller.region_gate import Attempt
from controller.region_prompts import described_scene
from controller.regions import group_disjoint
from controller.reviewing import told


class Standing(NamedTuple):
    """The picture as it stands, and what is known about it."""

    picture: str
    diagnosis: Diagnosis
    scores: tuple[Score, ...]


class State:
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
    def told(self) -> str:
        """What a person wrote for this round and those after it; empty if nobody did."""
        return told(self.rounds[: self._told_in])

    @property
    def _told_in(self) -> int:
        """The latest round before this one in which a person wrote what the painter is told; 0 if none."""
        return max((item.index for item in self.rounds[:-1] if told((item,))), default=0)

    @property
    def standing(self) -> Standing:
        """The latest accepted repair's picture, or the original."""
        for item in reversed(self.rounds):
            for repair in reversed(item.stays):
                if repair.chosen is not None and repair.picture is not None:
                    look = repair.candidates[repair.chosen - 1]
                    assert look.diagnosis is not None and look.scores is not None
                    return Standing(repair.picture, look.diagnosis, look.scores)
        first = self.rounds[0]
        assert first.image is not None and first.diagnosis is not None
        return Standing(first.image, first.diagnosis, self.first_scores)

    @property
    def first_scores(self) -> tuple[Score, ...]:
        """The scores of the picture as it came."""
        scores = self.rounds[0].scores
        assert scores is not None
        return scores

    @property
    def attempts(self) -> list[Attempt]:
        """Every region that was decided, oldest first."""
        return [
            Attempt(repair.plan.core, repair.accepted and bool(item.stays), repair.reason, item.index)
            for item in self.rounds
            for repair in item.repairs or ()
            if repair.accepted is not None
        ]

    def earlier_prompts(self, core: Mask) -> list[str]:
        """What the painter was told about this place in earlier rounds, since a person last wrote it, oldest
        first."""
        since = self._told_in
        return [repair.prompt for repair in self._earlier(core, since) if repair.prompt is not None]

    def earlier_answers(self, core: Mask) -> list[Answer]:
        """What of it was to answer a finding."""
        return [answer for repair in self._earlier(core) for answer in repair.answers]

    @property
    def spent(self) -> Usage:
        """What a language model took for all regions so far."""
        return sum((repair.usage for item in self.rounds for repair in item.repairs or ()), Usage())

    def _earlier(self, core: Mask, since: int = 0) -> list[Repair]:
        """This place in earlier rounds."""
        return [
            repair
            for item in self.rounds[since:-1]
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
            for repair in item.stays:
                if repair.accepted and not (repair.plan.support & found).any():
                    left &= ~repair.plan.support
        return left

    def update(self, **fields: object) -> None:
        self.rounds[-1] = replace(self.last, **fields)  # type: ignore[arg-type]

    def update_repair(self, region: int, **fields: object) -> None:
        repairs = list(self.repairs)
        repairs[region - 1] = replace(repairs[region - 1], **fields)  # type: ignore[arg-type]
        self.update(repairs=tuple(repairs))


class Spot(NamedTuple):
    """One region of a picture, and one painting of it; candidate 0 stands for all of them. Both count from
    1."""

    state: State
    region: int
    candidate: int = 0

    @property
    def repair(self) -> Repair:
        return self.state.repairs[self.region - 1]

    @property
    def painting(self) -> Candidate | None:
        done = self.repair.candidates
        return done[self.candidate - 1] if len(done) >= self.candidate else None


def groups(state: State) -> list[list[Spot]]:
    """The regions of a round in groups whose supports do not touch, in the plan's order."""
    numbers = {id(repair.plan): number for number, repair in enumerate(state.repairs, start=1)}
    groups = group_disjoint([repair.plan for repair in state.repairs])
    return [[Spot(state, numbers[id(plan)]) for plan in group] for group in groups]


def in_step(groups: Sequence[Sequence[Sequence[Spot]]]) -> Iterator[list[Spot]]:
    """The first group of every picture together, then the second of those that have one, and so on."""
    for turn in zip_longest(*groups, fillvalue=()):
        yield [spot for group in turn for spot in group]


def waves(group: Sequence[Spot]) -> list[list[Spot]]:
    """At most one region of each picture at a time, in order."""
    by_run: dict[str, list[Spot]] = {}
    for spot in group:
        by_run.setdefault(spot.state.run_id, []).append(spot)
    return [[s for s in turn if s is not None] for turn in zip_longest(*by_run.values())]

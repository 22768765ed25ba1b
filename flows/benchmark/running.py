"""Shares of a benchmark's cases, worked on until all are done: by one process, by many, after a crash.

A share is some cases with all arms. Whoever works on it holds the leases of its runs in the memory bank; a
share that somebody else holds is left for later. What is found done is read and not done again, so every
process that runs the same benchmark comes to the same results, whoever did the work.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from contracts.errors import InvalidInput, RunBusy
from contracts.protocols import MemoryBank
from controller.steps import Event, chunks
from flows.benchmark import arms, measuring
from flows.benchmark.cases import SEED, Case, make_cases
from flows.benchmark.measuring import Meter
from flows.benchmark.prompts import Prompt
from flows.benchmark.results import ArmSaid, Results
from flows.benchmark.tools import LOCK, Toolbox
from flows.benchmark.trails import Timing, Trail, prices, timing

SHARE = 16
"""Cases that are worked on together: two full batches, and small enough to be spread over many workers."""
WAIT_SECONDS = 2.0
"""Between two looks at shares that are all held by others."""


@dataclass(frozen=True)
class Plan:
    """What is measured: plain values, the same for every process that takes part."""

    profile: str
    prompts: tuple[Prompt, ...]
    arms: tuple[str, ...]
    budget: int
    seeds: int = 1
    seed: int = SEED

    def as_parameters(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of `as_parameters`."""
        prompts = tuple(Prompt(**prompt) for prompt in values["prompts"])
        return cls(**{**values, "prompts": prompts, "arms": tuple(values["arms"])})

    @property
    def shares(self) -> list[Sequence[Case]]:
        """The cases, in shares."""
        return list(chunks(make_cases(self.prompts, self.seeds, self.seed), SHARE))


@dataclass(frozen=True)
class Part:
    """What came of one share."""

    trails: Mapping[str, Sequence[Trail]]
    """By arm, one for each case."""
    values: Mapping[tuple[str, str], Mapping[str, float]]
    """By case's key and picture's digest."""
    timing: Mapping[str, Timing]


RunShares: TypeAlias = Callable[[Plan, Sequence[int]], Iterator[tuple[int, Part | None]]]
"""Works on some shares, in any order; yields each one's number and result, None for one that is held."""


def prepare(plan: Plan) -> tuple[Plan, list[ArmSaid]]:
    """The plan with the arms that can run here, and what to say of all. Raises InvalidInput if none can."""
    box = toolbox(plan.profile, plan.budget)
    asked = arms.chosen(plan.arms)
    said = [ArmSaid(one.name, one.about, one.fair, arms.problem(one, box, plan.prompts)) for one in asked]
    able = tuple(one.name for one in said if one.problem is None)
    if not able:
        raise InvalidInput(f"no arm can run: {said[0].name}: {said[0].problem}")
    return replace(plan, arms=able), said


def run(plan: Plan, said: Sequence[ArmSaid], run_shares: RunShares, facts: Mapping[str, Any]) -> Results:
    """Work on all shares with what `prepare` gave, and put the results together."""
    parts: dict[int, Part] = {}
    pending = _from_my_own_end(len(plan.shares))
    while pending:
        done = {number: part for number, part in run_shares(plan, pending) if part is not None}
        parts |= done
        pending = [number for number in pending if number not in parts]
        if pending and not done:
            time.sleep(WAIT_SECONDS)
    return _together(plan, said, [parts[number] for number in range(len(parts))], facts)


def one_by_one(
    on_event: Callable[[int, str, Event], None] = lambda *_: None,
) -> RunShares:
    """Shares one after the other in this process; events come with the share's number and the arm."""

    def run_shares(plan: Plan, numbers: Sequence[int]) -> Iterator[tuple[int, Part | None]]:
        for number in numbers:
            yield number, work_on(plan, number, lambda arm, event, n=number: on_event(n, arm, event))  # type: ignore[misc]

    return run_shares


def work_on(plan: Plan, number: int, on_event: Callable[[str, Event], None] = lambda *_: None) -> Part | None:
    """All arms for one share, and what their pictures are worth; None if somebody else holds it."""
    box = toolbox(plan.profile, plan.budget).for_share()
    cases = plan.shares[number]
    try:
        trails = {}
        for one in arms.chosen(plan.arms):
            box.on_event = lambda event, name=one.name: on_event(name, event)  # type: ignore[misc]
            trails[one.name] = one.work(box, cases)
        wanted = [
            (case, stand.picture)
            for of_arm in trails.values()
            for case, trail in zip(cases, of_arm, strict=True)
            for stand in trail.stands
        ]
        values = measuring.measure(box, meters(plan), wanted)
    except RunBusy:
        return None
    return Part(trails, values, timing(box.runs.values()))


@lru_cache(maxsize=1)
def _toolbox(profile: str, budget: int) -> Toolbox:
    return Toolbox(profile, open_bank(), budget)


def toolbox(profile: str, budget: int) -> Toolbox:
    """This process's models, each loaded once."""
    with LOCK:
        return _toolbox(profile, budget)


def meters(plan: Plan) -> list[Meter]:
    """This process's measures."""
    with LOCK:
        return _meters(plan.profile, plan.budget, tuple(prompt.text for prompt in plan.prompts))[0]


@lru_cache(maxsize=1)
def _meters(profile: str, budget: int, prompts: tuple[str, ...]) -> tuple[list[Meter], dict[str, str]]:
    return measuring.meters(toolbox(profile, budget), prompts)


def models(plan: Plan) -> dict[str, dict[str, Any]]:
    """What the arms of a prepared plan and its measures are made of, by part: checkpoints, settings."""
    box = toolbox(plan.profile, plan.budget)
    parts = dict.fromkeys(part for one in arms.chosen(plan.arms) for part in one.needs)
    said = {part: getattr(box, part) for part in parts}
    said |= {f"measure {meter.measure.name}": meter.scorer for meter in meters(plan)}
    return {name: dict(tool.describe()) for name, tool in said.items()}


def machine() -> str:
    """What model seconds were measured on; it says nothing of whose it is."""
    parts = [platform.machine(), f"{os.cpu_count()} hardware threads"]
    torch = sys.modules.get("torch")  # whatever uses a GPU has loaded it
    if torch is not None and torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def open_bank() -> MemoryBank:
    """The memory bank of benchmarks. Unless LEGION_DATABASE_URL names a database it is one of its own, in the
    folder `benchmarks` beside a person's runs, which thousands of measured runs would bury."""
    from memory_bank import open_memory_bank
    from memory_bank.places import DATABASE_VARIABLE, home

    if os.environ.get(DATABASE_VARIABLE):
        return open_memory_bank()
    folder = own_folder(home())
    return open_memory_bank(f"sqlite:///{folder}/memory_bank.sqlite3", str(folder / "store"))


def own_folder(home: Path) -> Path:
    """Where benchmarks are kept under a home."""
    return home.absolute() / "benchmarks"


def _from_my_own_end(count: int) -> list[int]:
    """All shares, beginning somewhere else in every process, so that two do not walk in step."""
    start = os.getpid() % count
    return [*range(start, count), *range(start)]


def _together(
    plan: Plan, said: Sequence[ArmSaid], parts: Sequence[Part], facts: Mapping[str, Any]
) -> Results:
    cases = [case for share in plan.shares for case in share]
    trails = {
        arm: _by_prompt([trail for part in parts for trail in part.trails[arm]], plan.seeds)
        for arm in plan.arms
    }
    values: dict[str, dict[str, Mapping[str, float]]] = {prompt.id: {} for prompt in plan.prompts}
    prompt_of = {case.key: case.prompt.id for case in cases}
    for part in parts:
        for (key, picture), measured in part.values.items():
            values[prompt_of[key]][picture] = measured
    meters, missing = _meters(plan.profile, plan.budget, tuple(prompt.text for prompt in plan.prompts))
    return Results(
        facts={**facts, "machine": machine(), "models": models(plan)},
        prompts=plan.prompts,
        arms=tuple(said),
        measures=tuple(meter.measure for meter in meters),
        not_measured=missing,
        bands=measuring.noise(toolbox(plan.profile, plan.budget), meters, _sample(plan, trails)),
        trails=trails,
        values=values,
        seconds=prices(part.timing for part in parts),
    )


def _by_prompt(trails: Sequence[Trail], seeds: int) -> tuple[tuple[Trail, ...], ...]:
    return tuple(tuple(row) for row in chunks(trails, seeds))


def _sample(plan: Plan, trails: Mapping[str, Sequence[Sequence[Trail]]]) -> list[tuple[str, str]]:
    """Final pictures of the first arm, and their prompts."""
    first = trails[plan.arms[0]]
    return [
        (of_prompt[0].end.picture, prompt.text)
        for prompt, of_prompt in list(zip(plan.prompts, first, strict=True))[: measuring.SAMPLE]
    ]

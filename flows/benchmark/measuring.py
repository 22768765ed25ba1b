"""What pictures are worth, by scorers that no arm has asked; and, kept apart, by the one that selected.

A measurement is kept in the memory bank like any step, under the scorers' versions: pictures that several
arms hand over are measured once, and another set of scorers measures the same pictures without painting them
again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, TypeAlias

from contracts.errors import LegionError
from contracts.protocols import MemoryBank, Scorer
from contracts.records import ModelCall, Run, Score
from controller.steps import chunks, score_all, seconds_of
from flows.benchmark.cases import Case, run_id
from flows.benchmark.statistics import tie_band
from flows.benchmark.tools import Toolbox

Role: TypeAlias = Literal["judge", "reporting", "selection", "in the loop"]
KIND = "regeneration"
"""A measurement is recorded as a round that paints nothing."""
ROLES: dict[Role, str] = {
    "judge": "the tabletop world's judge, which shares nothing with any arm",
    "reporting": "a reporting scorer, which selects nothing",
    "selection": "the scorer that selects: arms that choose by it look better than they are",
    "in the loop": "by the loop's own defender: arms that ask it look better than they are",
}
INDEPENDENT: tuple[Role, ...] = ("judge", "reporting")
SAMPLE = 16
"""Pictures that are scored twice to learn a scorer's noise."""


@dataclass(frozen=True)
class Measure:
    """One column of the tables. Higher is better."""

    name: str
    about: str
    role: Role
    binary: bool = False
    """Whether it says yes (1) or no (0)."""

    @property
    def independent(self) -> bool:
        """Whether no arm could have been selected by it."""
        return self.role in INDEPENDENT


@dataclass(frozen=True)
class Meter:
    """A measure and who takes it."""

    measure: Measure
    scorer: Scorer


def meters(box: Toolbox, prompts: Sequence[str]) -> tuple[list[Meter], dict[str, str]]:
    """Everything the profile can measure pictures of these prompts with, and why something is missing."""
    found: list[Meter] = []
    missing: dict[str, str] = {}
    for measure, build in _candidates(box, prompts):
        try:
            found.append(Meter(measure, build()))
        except LegionError as error:
            missing[measure.name] = str(error)
    return found, missing


def measure(
    box: Toolbox, found: Sequence[Meter], wanted: Sequence[tuple[Case, str]]
) -> dict[tuple[str, str], dict[str, float]]:
    """Every measure of every (case, picture's digest), by (case's key, digest); each is taken once."""
    scorers = [meter.scorer for meter in found]
    record = {"scorers": [dict(scorer.describe()) for scorer in scorers]}
    pairs = {(case.key, picture): case for case, picture in wanted}
    with ExitStack() as held:
        runs = {
            key: held.enter_context(_begin(box.bank, record, case, key[1])) for key, case in pairs.items()
        }
        values = {key: _kept(run) for key, run in runs.items()}
        waiting = [key for key, scores in values.items() if scores is None]
        for chunk in chunks(waiting, box.batch_size):
            images = [box.bank.image(picture) for _, picture in chunk]
            rows, calls = score_all(scorers, images, [pairs[key].prompt.text for key in chunk])
            for key, row in zip(chunk, rows, strict=True):
                _keep(box.bank, runs[key], row, calls)
                values[key] = row
    return {key: {score.name: score.value for score in scores or ()} for key, scores in values.items()}


def noise(box: Toolbox, found: Sequence[Meter], sample: Sequence[tuple[str, str]]) -> dict[str, float]:
    """How far two scores of one and the same (picture's digest, prompt) were apart at most, by measure: once
    alone, once among others."""
    images = [box.bank.image(digest) for digest, _ in sample]
    prompts = [prompt for _, prompt in sample]
    bands = {}
    for meter in found:
        together = [score.value for score in meter.scorer.score(images, prompts)]
        alone = [
            meter.scorer.score([image], [prompt])[0].value
            for image, prompt in zip(images, prompts, strict=True)
        ]
        bands[meter.measure.name] = tie_band(together, alone)
    return bands


def _candidates(box: Toolbox, prompts: Sequence[str]) -> list[tuple[Measure, Callable[[], Scorer]]]:
    profile = box.profile
    listed: list[tuple[Measure, Callable[[], Scorer]]] = []
    if profile.benchmark.judge:
        listed += _judged(box, prompts)
    for section in profile.reporting_scorers:
        said = Measure(section.name, f"reporting scorer ({section.kind})", "reporting")
        listed.append((said, lambda section=section: box.scorer(section)))  # type: ignore[misc]
    selecting = profile.selection_scorer
    said = Measure(selecting.name, f"selection scorer ({selecting.kind})", "selection")
    listed.append((said, lambda: box.selection_scorer))
    area = Measure(
        "artifact-free area", "share of the picture in which the defender finds nothing", "in the loop"
    )
    listed.append((area, lambda: box.area_scorer(area.name)))
    return listed


def _judged(box: Toolbox, prompts: Sequence[str]) -> list[tuple[Measure, Callable[[], Scorer]]]:
    from tabletop import judging

    said = (
        (Measure("sound", "the judge sees no flaw", "judge", binary=True), judging.sound),
        (
            Measure("soundness", "1 - the judge's probability of the likeliest flaw", "judge"),
            judging.soundness,
        ),
        (Measure("faithful", "solids and colors are the prompt's", "judge", binary=True), judging.faithful),
    )

    def build(one: Measure, value: judging.Value) -> Scorer:
        if value is judging.faithful:
            judging.check_readable(prompts)
        return judging.JudgeScorer(one.name, *box.judge, value)

    return [(one, lambda one=one, value=value: build(one, value)) for one, value in said]  # type: ignore[misc]


def _begin(bank: MemoryBank, record: Mapping[str, object], case: Case, picture: str):  # type: ignore[no-untyped-def]
    settings = {**record, "picture": picture}
    return bank.begin(
        run_id("measured", settings, case),
        kind=KIND,
        prompt=case.prompt.text,
        seed=case.seed,
        settings=settings,
    )


def _kept(run: Run) -> tuple[Score, ...] | None:
    return run.rounds[0].scores if run.rounds else None


def _keep(bank: MemoryBank, run: Run, row: Sequence[Score], calls: Sequence[ModelCall]) -> None:
    if not run.rounds:
        bank.open_round(run.run_id, 1, run.prompt, run.seed)
    bank.commit_scores(run.run_id, 1, row, seconds_of(calls), calls)
    bank.finish(run.run_id, "finished")

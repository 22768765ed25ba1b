"""A world of known truth for the loop: a picture's pixels say which flaws it has, and everything is
counted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from counting import Counting, dice

from contracts.errors import AlreadyCommitted, RunNotFound, SettingsChanged
from contracts.records import CATEGORIES, Diagnosis, Finding, Lesson, Round, Run, Score, Trial
from controller.modifiers import RuleBasedModifier, says
from controller.regeneration import RegenerationTools
from prompts import load_lexicon

TABLETOP = load_lexicon("tabletop")
SIDE = 8


class ScriptedGenerator(Counting):
    """Each category is flawed by the seed's chance, never where the prompt carries its quality words."""

    def __init__(self, flaw_chance: int = 200) -> None:
        super().__init__("scripted generator")
        self.flaw_chance = flaw_chance

    def generate(self, requests):
        self.count([(r.prompt, r.seed) for r in requests])
        return [self._picture(r) for r in requests]

    def unknown_words(self, prompt):
        return []

    def _picture(self, request):
        image = np.zeros((SIDE, SIDE, 3), np.uint8)
        for row, phrase in enumerate(TABLETOP.phrases):
            flawed = dice(request.seed, phrase) < self.flaw_chance and not says(request.prompt, phrase)
            image[row] = 255 if flawed else 0
        image[-1] = dice(request.prompt, request.seed)
        return image


class ScriptedDefender(Counting):
    """Reads the flaws off the pixels."""

    def __init__(self) -> None:
        super().__init__("scripted defender")

    def diagnose(self, images):
        self.count([image.tobytes() for image in images])
        return [Diagnosis(tuple(self._findings(image))) for image in images]

    def _findings(self, image):
        for row, category in enumerate(CATEGORIES):
            if image[row].any():
                mask = np.zeros((SIDE, SIDE), bool)
                mask[row] = True
                yield Finding(mask, f"the {category} part", f"its {category} is off", category, 0.5 + row / 8)


class ScriptedScorer(Counting):
    """The last row of the picture is its beauty; prompts are remembered."""

    def __init__(self, name: str = "taste", sign: float = 1.0) -> None:
        super().__init__(name)
        self.sign = sign
        self.prompts: list[str] = []

    def score(self, images, prompts):
        self.count([image.tobytes() for image in images])
        self.prompts += prompts
        return [Score(self.name, "1", self.sign * float(image[-1, 0, 0]) / 255) for image in images]


class CountingModifier(Counting):
    """The rule-based modifier, counted."""

    def __init__(self) -> None:
        super().__init__("rules")
        self.requests: list = []

    def revise(self, requests):
        self.count([(r.user_prompt, r.current_prompt) for r in requests])
        self.requests += requests
        return RuleBasedModifier(TABLETOP).revise(requests)


def scripted_tools(**changes: object) -> RegenerationTools:
    tools = RegenerationTools(
        generator=ScriptedGenerator(),
        defender=ScriptedDefender(),
        selection_scorer=ScriptedScorer(),
        reporting_scorers=(ScriptedScorer("report", sign=-1.0),),
        modifier=CountingModifier(),
    )
    return replace(tools, **changes)


def all_tools(tools: RegenerationTools) -> list[Counting]:
    return [tools.generator, tools.defender, *tools.scorers, tools.modifier]


class DictBank:
    """The memory bank's protocol over a dictionary, commits possible once. `interrupt_after` plays Ctrl-C."""

    def __init__(self) -> None:
        self.runs_by_id: dict[str, Run] = {}
        self.images: dict[str, np.ndarray] = {}
        self.commits = 0
        self.interrupt_after: int | None = None
        self.told: dict[tuple[str, int, int], tuple[Lesson, ...]] = {}
        self.trials: list[Trial] = []

    @contextmanager
    def begin(self, run_id, *, kind, prompt, seed, settings) -> Iterator[Run]:
        run = self.runs_by_id.setdefault(
            run_id, Run(run_id, kind, prompt, seed, settings, "running", "2026-01-01T00:00:00Z")
        )
        if (run.kind, run.prompt, run.seed, run.settings) != (kind, prompt, seed, settings):
            raise SettingsChanged(run_id)
        try:
            yield run
        except BaseException:
            if self.runs_by_id[run_id].status != "finished":
                self.finish(run_id, "interrupted")
            raise

    def load(self, run_id):
        if run_id not in self.runs_by_id:
            raise RunNotFound(run_id)
        return self.runs_by_id[run_id]

    def runs(self, limit=50):
        return list(reversed(self.runs_by_id.values()))[:limit]

    def finish(self, run_id, status):
        self.runs_by_id[run_id] = replace(self.runs_by_id[run_id], status=status)

    def image(self, digest):
        return self.images[digest]

    def open_round(self, run_id, index, prompt, seed):
        run = self.runs_by_id[run_id]
        if index != len(run.rounds) + 1:
            raise AlreadyCommitted(f"{run_id} {index}")
        opened = Round(index, prompt, seed)
        self.runs_by_id[run_id] = replace(run, rounds=(*run.rounds, opened))
        self._tick()
        return opened

    def commit_image(self, run_id, index, image, seconds, calls=()):
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        self.images[digest] = image.copy()
        self._commit(run_id, index, "image", digest)
        return digest

    def commit_diagnosis(self, run_id, index, diagnosis, seconds, calls=()):
        self._commit(run_id, index, "diagnosis", diagnosis)

    def commit_scores(self, run_id, index, scores, seconds, calls=()):
        self._commit(run_id, index, "scores", tuple(scores))

    def recall(self, run_id, index, region, painter, symptoms):
        return self.told.get((run_id, index, region), ())

    def commit_verdict(self, run_id, index, verdict, trials=()):
        self.trials += trials
        self._commit(run_id, index, "verdict", verdict)

    def commit_review(self, run_id, index, review):
        self._commit(run_id, index, "review", review)

    def commit_revision(self, run_id, index, revision, seconds, calls=()):
        self._commit(run_id, index, "revision", revision)

    def _commit(self, run_id, index, field, value):
        run = self.runs_by_id[run_id]
        rounds = list(run.rounds)
        if getattr(rounds[index - 1], field) is not None:
            raise AlreadyCommitted(f"{run_id} {index} {field}")
        rounds[index - 1] = replace(rounds[index - 1], **{field: value})
        self.runs_by_id[run_id] = replace(run, rounds=tuple(rounds))
        self._tick()

    def _tick(self):
        self.commits += 1
        if self.commits == self.interrupt_after:
            raise KeyboardInterrupt


def contents(runs, bank) -> list[tuple]:
    """Everything of some runs that must be the same however they came about: all but times, pictures as
    pixels."""
    return [
        (run.run_id, run.prompt, run.seed, run.status, tuple(_round_content(r, bank) for r in run.rounds))
        for run in runs
    ]


def _round_content(item: Round, bank) -> tuple:
    findings = [
        (f.mask.tobytes(), f.phrase, f.explanation, f.category, f.confidence)
        for f in (item.diagnosis.findings if item.diagnosis else ())
    ]
    return (
        item.index,
        item.prompt,
        item.seed,
        bank.image(item.image).tobytes(),
        tuple(findings),
        item.scores,
        item.verdict,
        item.revision,
    )

"""One prompt with one seed: what every arm works on, and under which name its run is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from contracts.seeds import picture_seed
from flows.benchmark.prompts import Prompt

SEED = 71_003
"""Of reported benchmarks. Settings, thresholds and policies were chosen with other seeds."""


@dataclass(frozen=True)
class Case:
    """A prompt and one of its seeds."""

    prompt: Prompt
    repeat: int
    """Which of the prompt's seeds, from 0."""
    seed: int
    """Of all rounds and draws of every arm, so that arms are paired."""

    @property
    def key(self) -> str:
        """The same for the same words and seed, whatever file they came from."""
        return digest([self.prompt.text, self.seed])


def make_cases(prompts: Sequence[Prompt], seeds: int, seed: int = SEED) -> list[Case]:
    """All prompts with `seeds` seeds each. A seed depends on the words and not on a place in the list."""
    return [
        Case(prompt, repeat, picture_seed(seed + repeat, prompt.text.encode()))
        for prompt in prompts
        for repeat in range(seeds)
    ]


def run_id(arm: str, record: Mapping[str, object], case: Case) -> str:
    """The memory bank's name for a case's run: it changes with the models and settings of `record`, so that
    whatever was done before with the same ones is found again, and nothing else."""
    return f"{arm}-{digest(record)}-{case.key}"


def digest(value: object) -> str:
    """Twelve hexadecimal digits that stand for plain values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]

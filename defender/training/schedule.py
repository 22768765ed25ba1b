"""How long a training runs, how fast, and which samples a step sees. Pure functions; no torch.

A step's samples depend on (seed, step) alone, never on how many processes share them: two processes with
half a batch each see what one sees with all of it, and a run that was killed goes on where it was, even on
another number of machines.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidInput

Decay = Literal["cosine", "linear", "none"]


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, how much at a time. The defaults train a small network from nothing."""

    steps: int
    batch_size: int = 32
    """Samples of one optimizer step, over all processes and accumulated parts together."""
    accumulation: int = 1
    """Parts that each process takes its share of a batch in; more parts need less memory."""
    learning_rate: float = 1e-3
    warmup: int = 100
    """Steps in which the learning rate rises to its peak."""
    decay: Decay = "cosine"
    decay_steps: int = 0
    """The step at which the decay would be complete; 0 is `steps`. The released code stops far before it."""
    floor: float = 0.02
    """Share of the peak that the decay ends at."""
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0
    ema_decay: float = 0.0
    """Decay of a moving average of the weights that becomes the result; 0 is none."""
    seed: int = 0
    group: int = 1
    """Neighbors in the data set that always share a part: 2 where clean and flawed pictures alternate."""
    bf16: bool = True
    checkpointing: bool = False
    """Compute activations of LLaMA and SAM again in the backward pass instead of keeping them."""
    max_seconds: float = math.inf
    """Stop early, the learning rate brought down in time. Resume is exact only where this is infinite."""
    pause_after: float = math.inf
    """Stop this sitting after so many seconds, to go on later; the result does not depend on it."""
    save_every: float = 120.0
    """Seconds between checkpoints."""
    log_every: int = 20
    validate_every: int = 0
    """Steps between validations, where there is something to validate on; 0 is only at the end."""
    workers: int = 0
    """Processes that prepare the next batches, for each process that trains; 0 prepares them in line."""


PRACTICAL = (
    "accumulation",
    "checkpointing",
    "pause_after",
    "save_every",
    "log_every",
    "validate_every",
    "workers",
)
"""Fields of a schedule that do not change its result: a run may be resumed with others."""


def essence(schedule: Schedule) -> dict[str, object]:
    """What of a schedule the result depends on, as JSON would give it back."""
    facts = {k: v for k, v in asdict(schedule).items() if k not in PRACTICAL}
    return {k: list(v) if isinstance(v, tuple) else str(v) if v == math.inf else v for k, v in facts.items()}


@dataclass(frozen=True)
class Outcome:
    """Where a run stands."""

    step: int
    finished: bool
    seconds: float
    """Training time of all sittings together."""


def learning_rate(step: int, progress: float, schedule: Schedule) -> float:
    """Linear warm-up, times the decay. `progress` is the share of the run behind this step, 0..1."""
    if schedule.decay_steps:
        progress = step / schedule.decay_steps
    progress = min(1.0, progress)
    left = {
        "cosine": 0.5 * (1 + math.cos(math.pi * progress)),
        "linear": 1 - progress,
        "none": 1.0,
    }[schedule.decay]
    decayed = schedule.floor + (1 - schedule.floor) * left
    return schedule.learning_rate * min(1.0, (step + 1) / max(1, schedule.warmup)) * decayed


def batch_indices(step: int, size: int, schedule: Schedule) -> list[int]:
    """Which samples a step sees: every sample once per pass, neighbors of a group together."""
    groups, per_batch = size // schedule.group, max(1, schedule.batch_size // schedule.group)
    if groups < per_batch:
        raise InvalidInput(
            f"{size} samples are too few for batches of {schedule.batch_size}: give more, or a smaller batch"
        )
    epoch, at = divmod(step, groups // per_batch)
    chosen = _order(schedule.seed, epoch, groups)[at * per_batch : (at + 1) * per_batch]
    return [int(g) * schedule.group + k for g in chosen for k in range(schedule.group)]


def part_size(schedule: Schedule, processes: int) -> int:
    """Samples in one part of a batch, where each of so many processes takes `accumulation` parts of it.

    Raises InvalidInput if the batch does not divide evenly.
    """
    parts = processes * schedule.accumulation
    size, rest = divmod(schedule.batch_size, parts)
    if size == 0 or rest or size % schedule.group:
        together = f", neighbors of {schedule.group} together" if schedule.group > 1 else ""
        raise InvalidInput(
            f"a batch of {schedule.batch_size} does not divide into {processes} processes x "
            f"{schedule.accumulation} accumulated parts{together}: choose a multiple of "
            f"{parts * schedule.group} as batch_size"
        )
    return size


def part_number(micro: int, process: int, processes: int) -> int:
    """Place in the batch of the `micro`-th part of a process: 0 .. processes * accumulation - 1."""
    return micro * processes + process


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(count)

"""A training as a TOML file: what is trained, from where, how long. Every key has a default.

    stage = "1"                   # 1, 2 or joint
    start = "weights/glamm"       # a defender's folder; the bundled one if it is left out
    trainable = "paper"           # paper (adapters and full parts) or all

    [schedule]                    # keys of defender/training/schedule.py, or epochs in place of steps
    epochs = 3
    batch_size = 16

    [lora]
    alpha = 8

Defaults are those of the paper (arXiv 2503.15264) where it says them; docs/training.md lists where its text
and its code differ.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.errors import InvalidInput
from defender.config import LoraSettings, LossWeights
from defender.training.adapters import Trainable
from defender.training.schedule import Decay, Schedule

Stage = Literal["1", "2", "joint"]

STAGE_1 = Schedule(steps=0, batch_size=16, learning_rate=1e-4, warmup=100, decay="linear", floor=0.0)
STAGE_2 = Schedule(steps=0, batch_size=512, learning_rate=1e-3, warmup=0, decay="cosine", floor=0.0)
PRESETS: Mapping[Stage, Schedule] = {"1": STAGE_1, "2": STAGE_2, "joint": STAGE_1}
"""Of the paper and its code; steps come from the number of epochs."""
EPOCHS = 3.0


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ScheduleSection(_Section):
    """Keys of Schedule. What is left out is the stage's preset."""

    epochs: float = Field(default=EPOCHS, gt=0)
    """Passes over the samples; `steps` wins over it."""
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    accumulation: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    warmup: int = Field(default=0, ge=0)
    decay: Decay = "linear"
    decay_steps: int = Field(default=0, ge=0)
    floor: float = Field(default=0.0, ge=0, le=1)
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)
    group: int = Field(default=1, ge=1)
    bf16: bool = True
    checkpointing: bool = False
    max_seconds: float = Field(default=math.inf, gt=0)
    pause_after: float = Field(default=math.inf, ge=0)
    save_every: float = Field(default=120.0, ge=0)
    log_every: int = Field(default=20, ge=1)
    validate_every: int = Field(default=100, ge=0)
    workers: int = Field(default=0, ge=0)


class LoraSection(_Section):
    """Low-rank adapters. The paper says alpha 8; its code trains with 16, the default here."""

    r: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    targets: tuple[str, ...] = Field(default=("q_proj", "v_proj"), min_length=1)


class LossSection(_Section):
    """Weights of the parts of the loss; `detection` only in a joint training."""

    ce: float = Field(default=1.0, ge=0)
    bce: float = Field(default=0.4, ge=0)
    dice: float = Field(default=0.2, ge=0)
    detection: float = Field(default=1.0, ge=0)


class ValidationSection(_Section):
    """What the best checkpoint is chosen on."""

    split: str | None = None
    """A split of the data set, such as "test"; else a share of the training samples is held out."""
    share: float = Field(default=0.05, ge=0, lt=1)
    """Of the training samples, drawn by the seed; 0 is no validation."""
    samples: int = Field(default=1000, ge=1)
    """At most so many."""


class Settings(_Section):
    """One training."""

    stage: Stage = "1"
    start: Path | None = None
    trainable: Trainable = "paper"
    save_dtype: Literal["float16", "bfloat16", "float32"] = "float16"
    frozen_dtype: Literal["float32", "bfloat16"] = "float32"
    """In which frozen weights are held while training; bfloat16 halves their memory."""
    tracker: Literal["tensorboard"] | None = None
    schedule: ScheduleSection = ScheduleSection()
    lora: LoraSection = LoraSection()
    loss: LossSection = LossSection()
    validation: ValidationSection = ValidationSection()

    def schedule_for(self, samples: int) -> Schedule:
        """The stage's preset with this file's keys, over so many training samples.

        Where they are not given, the warm-up is the preset's, but at most a tenth of the steps, and so is the
        distance between two lines of the log.
        """
        given = self.schedule.model_dump(exclude_unset=True)
        epochs = given.pop("epochs", EPOCHS)
        schedule = replace(PRESETS[self.stage], validate_every=self.schedule.validate_every)
        schedule = replace(schedule, **{k: v for k, v in given.items() if v is not None})
        if not schedule.steps:
            steps = max(1, round(epochs * max(1, samples // schedule.batch_size)))
            schedule = replace(schedule, steps=steps)
        tenth = schedule.steps // 10
        if "warmup" not in given:
            schedule = replace(schedule, warmup=min(schedule.warmup, tenth))
        if "log_every" not in given:
            schedule = replace(schedule, log_every=min(schedule.log_every, max(1, tenth)))
        return schedule

    @property
    def lora_settings(self) -> LoraSettings:
        """As the network's configuration keeps them."""
        return LoraSettings(**self.lora.model_dump())

    @property
    def loss_weights(self) -> LossWeights:
        """As the network's configuration keeps them."""
        return LossWeights(self.loss.ce, self.loss.bce, self.loss.dice)


def read_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """A TOML file, with `overrides` (nested like the file, None is not given) on top of it.

    Paths in the file start at the file. Raises InvalidInput, in one line, for a file that cannot be read, an
    unknown key or a value out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InvalidInput(f"{path} cannot be read: {error}") from error
        if isinstance(values.get("stage"), int):
            values["stage"] = str(values["stage"])
        if isinstance(values.get("start"), str):
            values["start"] = path.parent / Path(values["start"]).expanduser()
    for key, value in (overrides or {}).items():
        if isinstance(value, Mapping):
            section = values.get(key, {})
            given = {k: v for k, v in value.items() if v is not None}
            values[key] = {**section, **given} if isinstance(section, Mapping) else section
        elif value is not None:
            values[key] = value
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        reason = "there is no such key" if problem["type"] == "extra_forbidden" else problem["msg"]
        raise InvalidInput(f"{path or 'training settings'}: {where}: {reason}") from error

"""The stages of a training, each an objective run through the loop.

The two stages and their losses are the paper's (arXiv 2503.15264, section 4); `train_joint` does both at
once, which it names as future work. A network made from scratch also needs `pretrain_vision`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from defender.datasets import Collator, Samples
from defender.model import Legion
from defender.training.adapters import Trainable, choose_trainable
from defender.training.heads import VisionHeads
from defender.training.loop import Extras, run
from defender.training.objectives import Detection, Joint, Localization, WarmUp
from defender.training.schedule import Outcome, Schedule


def pretrain_vision(
    model: Legion, heads: VisionHeads, samples: Samples, collate: Collator, schedule: Schedule, folder: Path
) -> Outcome:
    """Warm up CLIP's tower and SAM's image encoder on dense tasks."""
    return run("warm-up", WarmUp(model, heads), samples, collate, schedule, folder)


def train_stage1(
    model: Legion,
    samples: Samples,
    collate: Collator,
    schedule: Schedule,
    folder: Path,
    *,
    trainable: Trainable = "all",
    frozen_dtype: torch.dtype = torch.float32,
    heads: VisionHeads | None = None,
    mask_boost: float = 5.0,
    heads_weight: float = 0.5,
    name: str = "stage-1",
    extras: Extras | None = None,
) -> Outcome:
    """Localization and explanation: answer cross-entropy, mask BCE, mask Dice.

    The mask losses start `mask_boost` times as heavy as in the paper and come down to its weights by the
    middle of the run; `heads`, if given, add their tasks with a weight that fades to a tenth. The log
    and the checkpoints carry `name`, so that a second round of the stage can lie beside the first.
    """
    choose_trainable(model, trainable, frozen_dtype)
    torch.manual_seed(schedule.seed)
    objective = Localization(model, heads, mask_boost, heads_weight)
    return run(name, objective, samples, collate, schedule, folder, extras)


def train_stage2(
    model: Legion,
    samples: Samples,
    collate: Collator,
    schedule: Schedule,
    folder: Path,
    *,
    extras: Extras | None = None,
) -> Outcome:
    """Detection: the head on CLIP's CLS feature alone is trained, real = 1, generated = 0.

    Raises InvalidInput if a batch has no sample of which either is known.
    """
    return run("stage-2", Detection(model), samples, collate, schedule, folder, extras)


def train_joint(
    model: Legion,
    samples: Samples,
    collate: Collator,
    schedule: Schedule,
    folder: Path,
    *,
    trainable: Trainable = "all",
    frozen_dtype: torch.dtype = torch.float32,
    heads: VisionHeads | None = None,
    mask_boost: float = 5.0,
    heads_weight: float = 0.5,
    detection_weight: float = 1.0,
    name: str = "joint",
    extras: Extras | None = None,
) -> Outcome:
    """Localization, explanation and detection in one stage; options as in `train_stage1`."""
    choose_trainable(model, trainable, frozen_dtype)
    torch.manual_seed(schedule.seed)
    objective = Joint(model, heads, mask_boost, heads_weight, detection_weight)
    return run(name, objective, samples, collate, schedule, folder, extras)

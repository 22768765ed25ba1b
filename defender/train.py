"""Training: a warm-up of the towers, stage 1 (localization and explanation), stage 2 (detection).

The two stages and their losses are the paper's (arXiv 2503.15264, section 4). A network made from scratch
also needs the warm-up: end to end alone it learns the wording of answers and little of the picture. So its
towers first learn dense masks and what the picture shows, through heads that are thrown away, and keep these
tasks as an auxiliary loss during stage 1.

What a step sees depends only on (seed, step), so a run that was killed and started again makes the same
weights.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from contracts.errors import CheckpointError, InvalidInput
from contracts.records import CATEGORIES
from defender.datasets import Batch, Collator, Sample, Samples
from defender.losses import dice_sum
from defender.model import Legion, Output

Metrics = dict[str, float]
Trainable = Literal["all", "paper"]

PAPER_TRAINABLE = ("lm_head", "embed_tokens", "mask_decoder", "text_hidden_fcs")
"""Name parts of what stage 1 of the paper trains in full, beside the low-rank adapters."""


@dataclass(frozen=True)
class Schedule:
    """How long, how fast, how much at a time."""

    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    clip: float = 1.0
    ema_decay: float = 0.0
    """Decay of a moving average of the weights that becomes the result; 0 is none."""
    seed: int = 0
    group: int = 1
    """Neighbors in the data set that always share a batch: 2 where clean and flawed pictures alternate."""
    bf16: bool = True
    max_seconds: float = math.inf
    """Stop early, the learning rate brought down in time. Resume is exact only where this is infinite."""
    pause_after: float = math.inf
    """Stop this sitting after so many seconds, to go on later; the result does not depend on it."""
    save_every: float = 120.0
    """Seconds between checkpoints."""
    log_every: int = 20


@dataclass(frozen=True)
class Outcome:
    """Where a run stands."""

    step: int
    finished: bool
    seconds: float
    """Training time of all sittings together."""


class VisionHeads(nn.Module):
    """What the warm-up asks of the towers. None of it is part of the finished network.

    On SAM's embedding: one mask per category. On CLIP's patches: the same, coarse, and which categories there
    are. On all of CLIP: the attributes. On its CLS feature: real or generated.
    """

    def __init__(self, model: Legion, attribute_sizes: Sequence[int] = ()) -> None:
        super().__init__()
        kinds = len(CATEGORIES)
        narrow = max(16, model.config.sam.out_dim // 4)
        self.masks = nn.Sequential(
            nn.ConvTranspose2d(model.config.sam.out_dim, narrow, 2, 2),
            nn.GELU(),
            nn.ConvTranspose2d(narrow, kinds, 2, 2),
        )
        width = model.config.vision.hidden_size
        self.coarse = nn.Linear(width, kinds)
        self.presence = nn.Linear(2 * width, kinds)
        self.attributes = nn.ModuleList([nn.Linear(2 * width, size) for size in attribute_sizes])
        self.real = nn.Linear(width, 2)

    def loss(
        self, cls_BP: Tensor, patches_BNP: Tensor, sam_BCgg: Tensor, batch: Batch
    ) -> tuple[Tensor, Metrics]:
        """Sum of all tasks, and each by name."""
        present_B3 = batch.dense_B3HW.flatten(2).amax(2)
        fine = self._mask_loss(self.masks(sam_BCgg).float(), batch.dense_B3HW, present_B3)
        grid = math.isqrt(patches_BNP.shape[1])
        share_B3gg = F.adaptive_avg_pool2d(batch.dense_B3HW, grid)
        logits_B3gg = self.coarse(patches_BNP).float().transpose(1, 2).unflatten(2, (grid, grid))
        coarse = F.binary_cross_entropy_with_logits(logits_B3gg, share_B3gg)
        whole = torch.cat([cls_BP, patches_BNP.mean(1)], dim=1)
        presence_B3 = self.presence(whole).float()
        presence = F.binary_cross_entropy_with_logits(presence_B3, present_B3)
        total = fine + coarse + presence
        known = batch.is_real_B >= 0
        metrics = {"dense": fine, "coarse": coarse, "presence": presence}
        if bool(known.any()):
            metrics["real"] = F.cross_entropy(self.real(cls_BP[known]).float(), batch.is_real_B[known])
            total = total + metrics["real"]
        for i, head in enumerate(self.attributes):
            target = batch.attributes_BA[:, i]
            if bool((target >= 0).any()):
                value = F.cross_entropy(head(whole).float(), target, ignore_index=-1)
                metrics["attributes"] = metrics.get("attributes", 0.0) + value
                total = total + value
        return total, {name: float(value.detach()) for name, value in metrics.items()}

    @staticmethod
    def _mask_loss(logits_B3HW: Tensor, target_B3HW: Tensor, present_B3: Tensor) -> Tensor:
        bce = F.binary_cross_entropy_with_logits(logits_B3HW, target_B3HW)
        there = present_B3 > 0
        if not bool(there.any()):
            return 4 * bce
        return 4 * bce + dice_sum(logits_B3HW[there], target_B3HW[there]) / there.sum()


class PromptHead(nn.Module):
    """Asks each [SEG] embedding which category it stands for, so that the masks have something to go by.

    Without it a small network learns to segment whatever is salient and ignores the text: exchanging the
    embeddings of two findings then leaves the masks as they are. Not part of the finished network.
    """

    def __init__(self, model: Legion) -> None:
        super().__init__()
        self.category = nn.Linear(model.config.sam.out_dim, len(CATEGORIES))

    def loss(self, prompts_MC: Tensor, category_M: Tensor) -> Tensor:
        """Cross-entropy; 0 where there is no mask, or an answer was cut and masks cannot be counted off."""
        if len(prompts_MC) == 0 or len(prompts_MC) != len(category_M):
            return prompts_MC.sum() * 0.0
        return F.cross_entropy(self.category(prompts_MC).float(), category_M)


def pretrain_vision(
    model: Legion, heads: VisionHeads, samples: Samples, collate: Collator, schedule: Schedule, folder: Path
) -> Outcome:
    """Warm up CLIP's tower and SAM's image encoder on dense tasks."""
    towers = nn.ModuleList([model.model.vision_tower, model.model.grounding_encoder.image_encoder])

    def loss(batch: Batch, progress: float) -> tuple[Tensor, Metrics]:
        cls_BP, patches_BNP = model.look(batch.inputs.clip_B3SS)
        return heads.loss(cls_BP, patches_BNP, model.survey(batch.inputs.sam_B3SS), batch)

    return _run("warm-up", nn.ModuleList([towers, heads]), loss, samples, collate, schedule, folder)


def train_stage1(
    model: Legion,
    samples: Samples,
    collate: Collator,
    schedule: Schedule,
    folder: Path,
    *,
    trainable: Trainable = "all",
    heads: VisionHeads | None = None,
    mask_boost: float = 5.0,
    heads_weight: float = 0.5,
) -> Outcome:
    """Localization and explanation: answer cross-entropy, mask BCE, mask Dice.

    The mask losses start `mask_boost` times as heavy as in the paper and come down to its weights by the
    middle of the run; `heads`, if given, add their tasks with a weight that fades to a tenth.
    """
    choose_trainable(model, trainable)
    torch.manual_seed(schedule.seed)
    prompt_head = PromptHead(model).to(model.device)

    def loss(batch: Batch, progress: float) -> tuple[Tensor, Metrics]:
        output: Output = model(batch.inputs)
        parts = model.loss(batch.inputs, batch.targets, output)
        boost = 1 + (mask_boost - 1) * max(0.0, 1 - 2 * progress)
        total = parts.ce_loss + boost * (parts.mask_bce_loss + parts.mask_dice_loss)
        weights = model.config.loss
        metrics = {
            "ce": float(parts.ce_loss.detach()) / weights.ce,
            "bce": float(parts.mask_bce_loss.detach()) / weights.bce,
            "dice": float(parts.mask_dice_loss.detach()) / weights.dice,
        }
        if heads is not None:
            extra, more = heads.loss(output.cls_BP, output.patches_BNP, output.sam_BCgg, batch)
            named = prompt_head.loss(output.prompts_MC, batch.category_M)
            total = total + heads_weight * (1 - 0.9 * progress) * (extra + named)
            metrics |= {**more, "named": float(named.detach())}
        return total, metrics

    modules = nn.ModuleList([model] if heads is None else [model, heads, prompt_head])
    return _run("stage-1", modules, loss, samples, collate, schedule, folder)


def train_stage2(
    model: Legion, samples: Samples, collate: Collator, schedule: Schedule, folder: Path
) -> Outcome:
    """Detection: the head on CLIP's CLS feature alone is trained, real = 1, generated = 0.

    Raises InvalidInput if a batch has no sample of which either is known.
    """
    model.config = replace(model.config, has_detection=True)
    model.requires_grad_(False)
    model.prediction_head.requires_grad_(True)

    def loss(batch: Batch, progress: float) -> tuple[Tensor, Metrics]:
        known = batch.is_real_B >= 0
        if not bool(known.any()):
            raise InvalidInput("the detection stage needs samples that say whether they are real")
        with torch.no_grad():
            cls_BP, _ = model.look(batch.inputs.clip_B3SS[known])
        logits = model.detect(cls_BP).float()
        target = batch.is_real_B[known]
        right = (logits.argmax(1) == target).float().mean()
        return F.cross_entropy(logits, target), {"accuracy": float(right)}

    return _run("stage-2", nn.ModuleList([model.prediction_head]), loss, samples, collate, schedule, folder)


def choose_trainable(model: Legion, trainable: Trainable) -> None:
    """Switch gradients on for what stage 1 trains: everything but the detection head, or the paper's set."""
    for name, parameter in model.named_parameters():
        wanted = trainable == "all" or any(part in name for part in PAPER_TRAINABLE)
        parameter.requires_grad_(wanted and not name.startswith("prediction_head"))


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


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def learning_rate(step: int, progress: float, schedule: Schedule) -> float:
    """Linear warm-up, then a cosine over the whole run down to 2 % of the peak."""
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return schedule.learning_rate * min(1.0, (step + 1) / max(1, schedule.warmup)) * cosine


def _run(
    name: str,
    modules: nn.Module,
    loss: Callable[[Batch, float], tuple[Tensor, Metrics]],
    samples: Samples,
    collate: Collator,
    schedule: Schedule,
    folder: Path,
) -> Outcome:
    """The loop of every stage. `folder/NAME.pt` is all that a resume needs, `folder/NAME.jsonl` the log."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)  # underflowing gradients would cost a CPU ten times the arithmetic
    parameters = [p for p in modules.parameters() if p.requires_grad]
    device = parameters[0].device
    if device.type == "cpu":  # plain matrix products: the backward pass of fused attention is slow there
        for module in modules.modules():
            if isinstance(module, PreTrainedModel):
                module.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        parameters, schedule.learning_rate, schedule.betas, weight_decay=schedule.weight_decay, fused=True
    )
    average = [p.detach().clone() for p in parameters] if schedule.ema_decay else []
    checkpoint = folder / f"{name}.pt"
    step, spent = _resume(checkpoint, modules, optimizer, average)
    started = saved = time.monotonic()
    window: list[Metrics] = []
    logged_at = (step, started)
    modules.train()
    with (folder / f"{name}.jsonl").open("a") as log:
        while True:
            now = time.monotonic()
            elapsed = spent + now - started
            progress = step / schedule.steps
            if schedule.max_seconds < math.inf:
                progress = max(progress, elapsed / schedule.max_seconds)
            last_step = progress >= 1
            pause = now - started >= schedule.pause_after
            if last_step or pause or now - saved >= schedule.save_every:
                _save(checkpoint, modules, optimizer, average, step, elapsed)
                saved = now
            if last_step or pause:
                break

            # ---- one step
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, progress, schedule)
            torch.manual_seed(schedule.seed * 1_000_003 + step)
            batch = _to(collate(_pick(samples, batch_indices(step, len(samples), schedule))), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=schedule.bf16):
                value, metrics = loss(batch, progress)
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(value)
            norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
            optimizer.step()
            _follow(average, parameters, min(schedule.ema_decay, (step + 1) / (step + 10)))
            step += 1
            # ----

            window.append({"loss": float(value.detach()), **metrics, "grad_norm": float(norm)})
            if step % schedule.log_every == 0:
                now = time.monotonic()
                speed = (step - logged_at[0]) * schedule.batch_size / (now - logged_at[1])
                logged_at = (step, now)
                mean = {k: round(float(np.mean([m[k] for m in window if k in m])), 4) for k in window[-1]}
                elapsed = round(spent + now - started, 1)
                line = {"step": step, "seconds": elapsed, "per_second": round(speed, 1)}
                print(f"{name} {json.dumps(line | mean)}", flush=True)
                log.write(json.dumps(line | mean) + "\n")
                log.flush()
                window.clear()
    if last_step:
        with torch.no_grad():
            for parameter, slow in zip(parameters, average, strict=False):
                parameter.copy_(slow)
    modules.eval()
    return Outcome(step, last_step, spent + time.monotonic() - started)


def _pick(samples: Samples, indices: Sequence[int]) -> list[Sample]:
    return [samples[i] for i in indices]


def _to(value: Batch, device: torch.device) -> Batch:
    """The batch on another device; as it is on a CPU."""
    if device.type == "cpu":
        return value
    inputs, targets = value.inputs, value.targets
    return Batch(
        type(inputs)(
            inputs.clip_B3SS.to(device),
            inputs.sam_B3SS.to(device),
            inputs.ids_BT.to(device),
            inputs.attention_BT.to(device),
            inputs.resized,
            inputs.original,
        ),
        type(targets)(
            targets.labels_BT.to(device),
            tuple(masks.to(device) for masks in targets.masks),
            None if targets.weight_BT is None else targets.weight_BT.to(device),
        ),
        value.dense_B3HW.to(device),
        value.category_M.to(device),
        value.is_real_B.to(device),
        value.attributes_BA.to(device),
    )


@torch.no_grad()
def _follow(average: list[Tensor], parameters: list[nn.Parameter], decay: float) -> None:
    if average:
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)


def _save(
    path: Path,
    modules: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: list[Tensor],
    step: int,
    seconds: float,
) -> None:
    state = {
        "modules": modules.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "step": step,
        "seconds": seconds,
    }
    partial = path.with_suffix(".tmp")
    torch.save(state, partial)
    partial.replace(path)


def _resume(
    path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer, average: list[Tensor]
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    try:
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} is of a network of another shape: remove it to start anew") from error
    for slow, kept in zip(average, state["average"], strict=True):
        slow.copy_(kept)
    return state["step"], state["seconds"]

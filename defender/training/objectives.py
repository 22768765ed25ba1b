"""What each stage minimizes: a sum of means, each over its own number of things.

Cross-entropy is a mean over words, a mask loss over masks, detection over pictures. Several processes, or
several parts of one batch, hold different numbers of each, so a mean of their means would weigh a word by who
happens to hold it. An objective therefore says how many things each of its means is over (`counts`), and the
loop gives back the factor that makes the sum over all parts the mean over the whole batch (`share`). With one
process and one part every factor is 1.

Every parameter a stage trains is a parameter of its objective, and the whole step is its forward pass: that
is what lets accelerate wrap it, whether in DDP, FSDP or DeepSpeed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from defender.config import IGNORE_INDEX
from defender.datasets import Batch
from defender.model import Legion, Output
from defender.training.heads import PromptHead, VisionHeads

Metrics = dict[str, float]


class Objective(nn.Module, ABC):
    """A stage's network and its loss."""

    network: Legion
    terms: tuple[str, ...]
    """Names of the means, in the order of `counts`, `share` and the values."""
    judged: Mapping[str, float]
    """Weight of each term in the validation loss."""
    every_parameter_used = False
    """Of SAM and CLIP some layers are never run, and in a batch without an artifact no mask is decoded."""
    unusable = "the samples have nothing that this training could learn from"
    """What to say where a whole batch counts nothing at all."""

    @abstractmethod
    def counts(self, batch: Batch) -> Tensor:
        """(terms,) float: how many things each mean is over in this part of a batch."""

    @abstractmethod
    def forward(self, batch: Batch, progress: float, share: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, values (terms,)). `progress` is the share of the run that is done, 0..1."""

    def validation_loss(self, means: Metrics) -> float:
        """What the best checkpoint has least of. Terms that nothing was counted for are left out."""
        return sum(weight * means[name] for name, weight in self.judged.items() if name in means)


class WarmUp(Objective):
    """CLIP's tower and SAM's image encoder on dense tasks, the rest of the network at rest."""

    def __init__(self, network: Legion, heads: VisionHeads) -> None:
        super().__init__()
        network.requires_grad_(False)
        network.model.vision_tower.requires_grad_(True)
        network.model.grounding_encoder.image_encoder.requires_grad_(True)
        self.network, self.heads, self.terms = network, heads, heads.terms
        self.judged = dict.fromkeys(self.terms, 1.0)

    def counts(self, batch: Batch) -> Tensor:
        return torch.stack(self.heads.counts(batch)).float()

    def forward(self, batch: Batch, progress: float, share: Tensor) -> tuple[Tensor, Tensor]:
        cls_BP, patches_BNP = self.network.look(batch.inputs.clip_B3SS)
        sam_BCgg = self.network.survey(batch.inputs.sam_B3SS)
        total, values = self.heads.loss(cls_BP, patches_BNP, sam_BCgg, batch, share)
        return total, _stack(values)


class Localization(Objective):
    """Stage 1: answer cross-entropy, mask BCE, mask Dice; and the heads' tasks where there are heads.

    The mask losses start `mask_boost` times as heavy as in the paper and come down to its weights by the
    middle of the run; the heads' tasks count with a weight that fades to a tenth of `heads_weight`.
    """

    terms: tuple[str, ...] = ("ce", "bce", "dice")

    def __init__(
        self,
        network: Legion,
        heads: VisionHeads | None = None,
        mask_boost: float = 1.0,
        heads_weight: float = 0.0,
    ) -> None:
        super().__init__()
        weights = network.config.loss
        self.network, self.mask_boost, self.heads_weight = network, mask_boost, heads_weight
        self.judged = {"ce": weights.ce, "bce": weights.bce, "dice": weights.dice}
        self.heads = heads
        if heads is not None:
            self.prompt_head = PromptHead(network).to(network.device)
            self.terms = (*self.terms, "named", *heads.terms)

    def counts(self, batch: Batch) -> Tensor:
        masks = (batch.inputs.ids_BT[:, 1:] == self.network.config.tokens.seg).sum()
        counts = [_words(batch), masks, masks]
        if self.heads is not None:
            named = masks if int(masks) == len(batch.category_M) else torch.zeros_like(masks)
            counts += [named, *self.heads.counts(batch)]
        return torch.stack([count.float() for count in counts])

    def forward(self, batch: Batch, progress: float, share: Tensor) -> tuple[Tensor, Tensor]:
        total, values, _ = self.step(batch, progress, share)
        return total, _stack(values)

    def step(self, batch: Batch, progress: float, share: Tensor) -> tuple[Tensor, list[Tensor], Output]:
        """The loss, the value of each term, and the pass they are made of."""
        output: Output = self.network(batch.inputs)
        parts = self.network.loss(batch.inputs, batch.targets, output)
        ce, bce, dice = parts.ce_loss, parts.mask_bce_loss, parts.mask_dice_loss
        weights = self.network.config.loss
        boost = 1 + (self.mask_boost - 1) * max(0.0, 1 - 2 * progress)
        total = ce * share[0] + boost * (bce * share[1] + dice * share[2])
        values = [ce / (weights.ce or 1.0), bce / (weights.bce or 1.0), dice / (weights.dice or 1.0)]
        if self.heads is not None:
            extra, more = self.heads.loss(
                output.cls_BP, output.patches_BNP, output.sam_BCgg, batch, share[len(values) + 1 :]
            )
            named = self.prompt_head.loss(output.prompts_MC, batch.category_M)
            fading = self.heads_weight * (1 - 0.9 * progress)
            total = total + fading * (extra + named * share[len(values)])
            values += [named, *more]
        return total, values, output


class Detection(Objective):
    """Stage 2: the head on CLIP's CLS feature alone is trained, real = 1, generated = 0."""

    terms: tuple[str, ...] = ("detection", "accuracy")
    every_parameter_used = True
    unusable = "the detection stage needs samples that say whether they are real"

    def __init__(self, network: Legion) -> None:
        super().__init__()
        network.config = replace(network.config, has_detection=True)
        network.requires_grad_(False)
        network.prediction_head.requires_grad_(True)
        self.network, self.judged = network, {"detection": 1.0}

    def counts(self, batch: Batch) -> Tensor:
        known = (batch.is_real_B >= 0).sum().float()
        return torch.stack([known, known])

    def forward(self, batch: Batch, progress: float, share: Tensor) -> tuple[Tensor, Tensor]:
        known_B = batch.is_real_B >= 0
        with torch.no_grad():
            cls_BP, _ = self.network.look(batch.inputs.clip_B3SS)
        loss, accuracy = detection_loss(self.network, cls_BP[known_B], batch.is_real_B[known_B])
        return loss * share[0], _stack([loss, accuracy])


class Joint(Localization):
    """Both stages at once, which the paper names as future work: one pass through CLIP serves both.

    Where CLIP is trained, detection teaches it too.
    """

    def __init__(
        self,
        network: Legion,
        heads: VisionHeads | None = None,
        mask_boost: float = 1.0,
        heads_weight: float = 0.0,
        detection_weight: float = 1.0,
    ) -> None:
        super().__init__(network, heads, mask_boost, heads_weight)
        network.config = replace(network.config, has_detection=True)
        network.prediction_head.requires_grad_(True)
        self.detection_weight = detection_weight
        self.terms = (*self.terms, *Detection.terms)
        self.judged = {**self.judged, "detection": detection_weight}

    def counts(self, batch: Batch) -> Tensor:
        known = (batch.is_real_B >= 0).sum().float()
        return torch.cat([super().counts(batch), torch.stack([known, known])])

    def forward(self, batch: Batch, progress: float, share: Tensor) -> tuple[Tensor, Tensor]:
        total, values, output = self.step(batch, progress, share[:-2])
        known_B = batch.is_real_B >= 0
        loss, accuracy = detection_loss(self.network, output.cls_BP[known_B], batch.is_real_B[known_B])
        return total + self.detection_weight * loss * share[-2], _stack([*values, loss, accuracy])


def detection_loss(network: Legion, cls_BP: Tensor, real_B: Tensor) -> tuple[Tensor, Tensor]:
    """(Cross-entropy, accuracy) of the detection head; both 0 for no picture at all."""
    logits_B2 = network.detect(cls_BP).float()
    if len(real_B) == 0:
        return logits_B2.sum() * 0, logits_B2.new_zeros(())
    return F.cross_entropy(logits_B2, real_B), (logits_B2.argmax(1) == real_B).float().mean()


def _words(batch: Batch) -> Tensor:
    """What the answer's cross-entropy divides by: labelled words, or their weights' sum."""
    counted_BT = batch.targets.labels_BT[:, 1:] != IGNORE_INDEX
    if batch.targets.weight_BT is None:
        return counted_BT.sum()
    return batch.targets.weight_BT[:, 1:][counted_BT].sum()


def _stack(values: list[Tensor]) -> Tensor:
    return torch.stack([value.detach().float() for value in values])

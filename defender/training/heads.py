"""What helps a small network made from nothing to learn, and is thrown away afterwards.

End to end alone it learns the wording of answers and little of the picture. So its towers first learn dense
masks and what the picture shows (VisionHeads) and keep these tasks beside stage 1; and every [SEG] is asked
what it stands for (PromptHead).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contracts.records import CATEGORIES
from defender.datasets import Batch
from defender.losses import dice_sum
from defender.model import Legion

REAL_WEIGHT = 2.0


class VisionHeads(nn.Module):
    """What the warm-up asks of the towers. None of it is part of the finished network.

    On SAM's embedding: one mask per category. On CLIP's patches: the same, coarse, and which categories there
    are. On all of CLIP: the attributes. On CLS and each patch: real or generated, with weight REAL_WEIGHT
    because what gives a decoder away is faint beside everything else that a picture shows.
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
        names = [f"attribute {i}" for i in range(len(attribute_sizes))]
        self.terms = ("dense bce", "dense dice", "coarse", "presence", "real", *names)

    def counts(self, batch: Batch) -> list[Tensor]:
        """How many things each term is a mean over."""
        size = torch.tensor(len(batch.is_real_B), device=batch.is_real_B.device)
        there = (batch.dense_B3HW.flatten(2).amax(2) > 0).sum()
        asked = [(batch.attributes_BA[:, i] >= 0).sum() for i in range(len(self.attributes))]
        return [size, there, size, size, (batch.is_real_B >= 0).sum(), *asked]

    def loss(
        self, cls_BP: Tensor, patches_BNP: Tensor, sam_BCgg: Tensor, batch: Batch, share: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """Sum of all tasks, each times its entry of `share`, and the value of each term."""
        present_B3 = batch.dense_B3HW.flatten(2).amax(2)
        logits_B3HW = self.masks(sam_BCgg).float()
        bce = F.binary_cross_entropy_with_logits(logits_B3HW, batch.dense_B3HW)
        there = present_B3 > 0
        dice = bce * 0
        if bool(there.any()):
            dice = dice_sum(logits_B3HW[there], batch.dense_B3HW[there]) / there.sum()
        grid = math.isqrt(patches_BNP.shape[1])
        share_B3gg = F.adaptive_avg_pool2d(batch.dense_B3HW, grid)
        logits_B3gg = self.coarse(patches_BNP).float().transpose(1, 2).unflatten(2, (grid, grid))
        coarse = F.binary_cross_entropy_with_logits(logits_B3gg, share_B3gg)
        whole = torch.cat([cls_BP, patches_BNP.mean(1)], dim=1)
        presence = F.binary_cross_entropy_with_logits(self.presence(whole).float(), present_B3)
        real = 0.5 * _class_loss(self.real, cls_BP, batch.is_real_B)
        each_patch = batch.is_real_B.repeat_interleave(patches_BNP.shape[1])
        real = real + 0.5 * _class_loss(self.real, patches_BNP.flatten(0, 1), each_patch)
        attributes = [
            _class_loss(head, whole, batch.attributes_BA[:, i]) for i, head in enumerate(self.attributes)
        ]
        total = (4 * bce * share[0] + dice * share[1]) + coarse * share[2] + presence * share[3]
        for value, part in zip((REAL_WEIGHT * real, *attributes), share[4:], strict=True):
            total = total + value * part
        return total, [bce, dice, coarse, presence, real, *attributes]


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


def _class_loss(head: nn.Module, features_BX: Tensor, target_B: Tensor) -> Tensor:
    """Cross-entropy over the samples whose class is known (not negative); 0 if there are none."""
    known = target_B >= 0
    if not bool(known.any()):
        return head(features_BX).float().sum() * 0
    value: Tensor = F.cross_entropy(head(features_BX).float(), target_B.clamp(min=-1), ignore_index=-1)
    return value

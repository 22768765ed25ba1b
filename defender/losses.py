"""The losses of stage 1, as LEGION (arXiv 2503.15264) inherits them from GLaMM.

Legend: M masks, H, W pixels, K labelled positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_DICE_SCALE = 1000.0
_DICE_EPS = 1e-6
_COUNT_EPS = 1e-8


def bce_sum(logits_MHW: Tensor, target_MHW: Tensor) -> Tensor:
    """Binary cross-entropy, averaged over pixels and summed over masks."""
    loss = F.binary_cross_entropy_with_logits(logits_MHW, target_MHW, reduction="none")
    return loss.flatten(1).mean(1).sum()


def dice_sum(logits_MHW: Tensor, target_MHW: Tensor) -> Tensor:
    """Dice loss 1 - 2|p t| / (|p| + |t|), summed over masks; the sums are scaled down by 1000 as upstream."""
    p_MX, t_MX = logits_MHW.sigmoid().flatten(1), target_MHW.flatten(1)
    overlap_M = 2 * (p_MX / _DICE_SCALE * t_MX).sum(1)
    total_M = (p_MX / _DICE_SCALE).sum(1) + (t_MX / _DICE_SCALE).sum(1)
    return (1 - (overlap_M + _DICE_EPS) / (total_M + _DICE_EPS)).sum()


def mask_losses(predicted: Sequence[Tensor], target: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """(BCE, Dice), each a mean over all masks of the batch, in fp32.

    `predicted` and `target` hold one (M_i, H_i, W_i) tensor per image, logits and 0..1. An image may have
    more targets than predictions (its answer was cut off): the surplus is left out. The other way round is a
    ValueError, because then no one knows which target belongs to which mask.
    """
    pairs = []
    for logits, truth in zip(predicted, target, strict=True):
        if len(truth) < len(logits):
            raise ValueError(f"{len(logits)} predicted masks, but only {len(truth)} true ones")
        if len(logits):
            pairs.append((logits.float(), truth[: len(logits)].to(logits.device, torch.float32)))
    count = sum(len(logits) for logits, _ in pairs)
    if count == 0:
        zero = predicted[0].new_zeros((), dtype=torch.float32) if len(predicted) else torch.zeros(())
        return zero, zero.clone()
    if len({logits.shape[1:] for logits, _ in pairs}) == 1:  # one size: one call instead of one per image
        pairs = [(torch.cat([a for a, _ in pairs]), torch.cat([b for _, b in pairs]))]
    bce = torch.stack([bce_sum(*pair) for pair in pairs]).sum() / (count + _COUNT_EPS)
    dice = torch.stack([dice_sum(*pair) for pair in pairs]).sum() / (count + _COUNT_EPS)
    return bce, dice


def answer_loss(logits_KV: Tensor, labels_K: Tensor, weight_K: Tensor | None = None) -> Tensor:
    """Cross-entropy over the labelled positions of the whole batch; a weighted mean if weights are given."""
    if labels_K.numel() == 0:
        return logits_KV.float().sum() * 0.0
    loss_K = F.cross_entropy(logits_KV.float(), labels_K, reduction="none")
    if weight_K is None:
        return loss_K.mean()
    return (loss_K * weight_K).sum() / weight_K.sum()

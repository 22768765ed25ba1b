"""Pictures as the networks see them, and back."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def pixels(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float (N, 3, H, W) in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def as_pictures(x: torch.Tensor) -> NDArray[np.uint8]:
    """float (N, 3, H, W) in -1..1 -> uint8 (N, H, W, 3)."""
    whole = ((x.float().clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.asarray(whole.permute(0, 2, 3, 1))


def device_of(module: nn.Module) -> torch.device:
    """Where its first weight lies."""
    return next(module.parameters()).device

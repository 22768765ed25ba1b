"""A random SAM of a few thousand weights in the official layout."""

from __future__ import annotations

from pathlib import Path

import torch

from defender.config import SamConfig
from defender.sam import GroundingEncoder

TINY = SamConfig(
    image_size=64,
    resize_to=64,
    patch_size=16,
    embed_dim=32,
    depth=3,
    num_heads=2,
    window_size=3,
    global_attn_indexes=(1,),
    out_dim=32,
    decoder_mlp_dim=48,
    mask_in_chans=4,
)


def tiny_sam(seed: int = 5) -> GroundingEncoder:
    """The network with the weights of that seed."""
    torch.manual_seed(seed)
    return GroundingEncoder(TINY).eval()


def save_sam(path: Path, sam: GroundingEncoder | None = None) -> Path:
    """The weights as the official file has them."""
    torch.save((sam or tiny_sam()).state_dict(), path)
    return path

"""Segment Anything (arXiv 2304.02643) from its official checkpoints: a box becomes the mask of what is in it.

The sizes of the network are read off the tensors, so `sam_vit_b`, `_l` and `_h` (and any smaller one in the
same layout) load without being named. Shapes: H, W of the picture; S is SAM's canvas, M the number of boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.digests import file_sha256
from contracts.errors import CheckpointError, ModelError
from contracts.records import Box, Image, Mask
from defender.config import SamConfig
from defender.preprocess import sam_pixels
from defender.sam import GroundingEncoder
from defender.tensor_files import misfits, open_file


class SamBoxes:
    """One loaded SAM. Slow once per picture, fast per box."""

    def __init__(self, network: GroundingEncoder, config: SamConfig, digest: str) -> None:
        self.network, self.config, self.digest = network.eval(), config, digest

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> SamBoxes:
        """Read an official checkpoint (`.pth`, opened without running code, or `.safetensors`).

        Raises CheckpointError if it cannot be read or is no SAM.
        """
        path = Path(path)
        if not path.is_file():
            raise CheckpointError(f"SAM's weights are missing in {path}: docs/llm.md says where to get them")
        stored = open_file(path)
        weights = {name: item.read() for name, item in stored.items()}
        config = config_of(weights)
        network = GroundingEncoder(config)
        if problem := misfits(network.state_dict(), weights):
            raise CheckpointError(f"{path} is no checkpoint of SAM: {problem}")
        network.load_state_dict(weights)
        return cls(network.to(device), config, file_sha256(path)[:12])

    @torch.no_grad()
    def masks(self, image: Image, boxes: Sequence[Box]) -> list[tuple[Mask, float]]:
        """Per box the bool (H, W) mask of what SAM sees in it, and how well SAM thinks it fits, 0..1.

        The mask may be empty and may reach out of the box. Raises ModelError if the network fails.
        """
        if not boxes:
            return []
        size, device = self.config.image_size, next(self.network.parameters()).device
        pixels, (height, width) = sam_pixels(image, size, self.config.resize_to)
        scale = torch.tensor([width / image.shape[1], height / image.shape[0]] * 2)
        boxes_M4 = (torch.tensor(boxes, dtype=torch.float32) * scale).to(device)
        try:
            features = self.network.image_encoder(pixels[None].to(device))
            sparse, dense = self.network.prompt_encoder(points=None, boxes=boxes_M4, masks=None)
            low_res_M1gg, fit_M1 = self.network.mask_decoder(
                image_embeddings=features,
                image_pe=self.network.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
        except RuntimeError as error:
            raise ModelError(f"SAM failed ({str(error).splitlines()[0]})") from error
        logits_MHW = _full_size(low_res_M1gg, size, (height, width), image.shape[:2])[:, 0]
        fits = fit_M1[:, 0].clamp(0, 1).tolist()
        return [(mask, fit) for mask, fit in zip((logits_MHW > 0).cpu().numpy(), fits, strict=True)]


def config_of(weights: Mapping[str, Tensor]) -> SamConfig:
    """The sizes of the network that these tensors belong to. Raises CheckpointError if it is no SAM."""
    try:
        return _read_config(weights)
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"the file is no checkpoint of SAM in the official layout: {error} is missing or of another shape"
        ) from error


def _read_config(weights: Mapping[str, Tensor]) -> SamConfig:
    _, grid, _, width = weights["image_encoder.pos_embed"].shape
    patch = weights["image_encoder.patch_embed.proj.weight"].shape[-1]
    blocks = _numbered(weights, "image_encoder.blocks.")
    # A block's table of relative positions tells its window: 2 w - 1 rows; where it is global, w is the grid.
    windows = [(weights[f"image_encoder.blocks.{b}.attn.rel_pos_h"].shape[0] + 1) // 2 for b in range(blocks)]
    head = weights["image_encoder.blocks.0.attn.rel_pos_h"].shape[1]
    layers = "mask_decoder.transformer.layers."
    return SamConfig(
        image_size=grid * patch,
        resize_to=grid * patch,
        patch_size=patch,
        embed_dim=width,
        depth=blocks,
        num_heads=width // head,
        mlp_ratio=weights["image_encoder.blocks.0.mlp.lin1.weight"].shape[0] / width,
        window_size=min(windows),
        global_attn_indexes=tuple(b for b, window in enumerate(windows) if window == grid),
        out_dim=weights["image_encoder.neck.0.weight"].shape[0],
        decoder_depth=_numbered(weights, layers),
        decoder_mlp_dim=weights[f"{layers}0.mlp.lin1.weight"].shape[0],
        mask_in_chans=weights["prompt_encoder.mask_downscaling.3.weight"].shape[0],
    )


def _numbered(weights: Mapping[str, Tensor], prefix: str) -> int:
    numbers = [int(name[len(prefix) :].split(".")[0]) for name in weights if name.startswith(prefix)]
    if not numbers:
        raise KeyError(prefix)
    return max(numbers) + 1


def _full_size(low_res_M1gg: Tensor, size: int, inside: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    """Logits at the picture's size: to the canvas, without what was added to it, to (H, W)."""
    canvas = F.interpolate(low_res_M1gg, (size, size), mode="bilinear", align_corners=False)
    seen = canvas[..., : inside[0], : inside[1]]
    return F.interpolate(seen, (shape[0], shape[1]), mode="bilinear", align_corners=False)

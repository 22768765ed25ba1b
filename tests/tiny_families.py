"""A random checkpoint of every family that profiles are made for, in its real layout: a few thousand weights,
made with diffusers' own classes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from tiny_checkpoints import MAX_TOKENS, save_pipeline, text_values, tokenizer
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

WIDTH = 32


def _clip(projection: bool) -> Any:
    config = CLIPTextConfig(**text_values(tokenizer()), projection_dim=WIDTH)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config).eval()


def _t5(width: int = WIDTH) -> dict[str, Any]:
    pieces = [
        ("<pad>", 0.0),
        ("</s>", 0.0),
        ("<unk>", 0.0),
        *((chr(c), -2.0) for c in (0x2581, *range(97, 123))),
    ]
    made = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
    config = T5Config(
        vocab_size=64,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=1,
        num_heads=4,
        relative_attention_num_buckets=8,
    )
    return {"tokenizer": made, "text_encoder": T5EncoderModel(config).eval()}


def _vae(latent_channels: int) -> Any:
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16),
        latent_channels=latent_channels,
        norm_num_groups=4,
        sample_size=WIDTH,
        layers_per_block=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.1,
        scaling_factor=1.5,
    )


def _sdxl_unet(channels: int) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 1),
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        cross_attention_dim=2 * WIDTH,
        norm_num_groups=4,
    )


def _sdxl_parts(channels: int) -> dict[str, Any]:
    return {
        "unet": _sdxl_unet(channels),
        "vae": _vae(4),
        "scheduler": diffusers.EulerDiscreteScheduler(),
        "text_encoder": _clip(False),
        "tokenizer": tokenizer(),
        "text_encoder_2": _clip(True),
        "tokenizer_2": tokenizer(),
    }


def sdxl(folder: Path) -> Path:
    """Stable Diffusion XL."""
    return _saved(diffusers.StableDiffusionXLPipeline, _sdxl_parts(4), folder)


def sdxl_inpainting(folder: Path) -> Path:
    """SDXL made for inpainting: nine channels."""
    return _saved(diffusers.StableDiffusionXLInpaintPipeline, _sdxl_parts(9), folder)


def sdxl_turbo(folder: Path) -> Path:
    """SDXL Turbo: a sampler that draws noise at every step."""
    sampler = diffusers.EulerAncestralDiscreteScheduler(timestep_spacing="trailing")
    return _saved(diffusers.StableDiffusionXLPipeline, {**_sdxl_parts(4), "scheduler": sampler}, folder)


def sd15_inpainting(folder: Path) -> Path:
    """Stable Diffusion 1.5 made for inpainting: nine channels."""
    plain = diffusers.StableDiffusionPipeline.from_pretrained(save_pipeline(folder))
    unet = diffusers.UNet2DConditionModel.from_config(plain.unet.config, in_channels=9)
    sampler = diffusers.PNDMScheduler(skip_prk_steps=True, steps_offset=1)
    parts = {**plain.components, "unet": unet, "scheduler": sampler}
    kind = diffusers.StableDiffusionInpaintPipeline
    kind(**parts, requires_safety_checker=False).save_pretrained(folder)
    return folder


def sd3(folder: Path) -> Path:
    """Stable Diffusion 3, its T5 included."""
    t5 = _t5(2 * WIDTH)  # SD 3 pads both CLIPs, side by side, to its width
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=32,
    )
    parts = {
        "transformer": transformer,
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": _vae(16),
        "text_encoder": _clip(True),
        "tokenizer": tokenizer(),
        "text_encoder_2": _clip(True),
        "tokenizer_2": tokenizer(),
        "text_encoder_3": t5["text_encoder"],
        "tokenizer_3": t5["tokenizer"],
    }
    return _saved(diffusers.StableDiffusion3Pipeline, parts, folder)


def _flux_parts(channels: int, guided: bool = True) -> dict[str, Any]:
    t5 = _t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=channels,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=guided,
    )
    return {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
        "vae": _vae(4),
        "text_encoder": _clip(False),
        "tokenizer": tokenizer(),
        "text_encoder_2": t5["text_encoder"],
        "tokenizer_2": t5["tokenizer"],
        "transformer": transformer,
    }


def flux(folder: Path) -> Path:
    """FLUX.1, with guidance as dev has it."""
    return _saved(diffusers.FluxPipeline, _flux_parts(16), folder)


def flux_schnell(folder: Path) -> Path:
    """FLUX.1 schnell: nothing of it reads a guidance."""
    return _saved(diffusers.FluxPipeline, _flux_parts(16, guided=False), folder)


def flux_fill(folder: Path) -> Path:
    """FLUX.1 Fill: latents, the picture around the mask, and the mask of each 4 x 4 pixels."""
    return _saved(diffusers.FluxFillPipeline, _flux_parts(16 + 16 + 4 * 4), folder)


def _saved(kind: Any, parts: dict[str, Any], folder: Path) -> Path:
    kind(**parts).save_pretrained(folder)
    return folder


FAMILIES: dict[str, Callable[[Path], Path]] = {
    "sd15": save_pipeline,
    "sd15-inpainting": sd15_inpainting,
    "sdxl": sdxl,
    "sdxl-inpainting": sdxl_inpainting,
    "sdxl-turbo": sdxl_turbo,
    "sd3": sd3,
    "flux": flux,
    "flux-schnell": flux_schnell,
    "flux-fill": flux_fill,
}


def save_family(name: str, folder: Path, variant: str = "") -> Path:
    """The checkpoint of that family, equal each time; with a variant, its weights' files carry that name and
    no others are there."""
    torch.manual_seed(0)
    assert MAX_TOKENS < 77
    if not variant:
        return FAMILIES[name](folder)
    plain = FAMILIES[name](folder.with_name(f"{folder.name}-plain"))
    diffusers.DiffusionPipeline.from_pretrained(plain).save_pretrained(folder, variant=variant)
    return folder

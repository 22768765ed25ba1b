"""Random checkpoints of a few thousand weights in the folder formats of the large ones."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

WORDS = "a red blue cone ball on the wooden table natural shadow perfect shape".split()
MAX_TOKENS = 16


def tokenizer() -> CLIPTokenizer:
    """Letters, letters that end a word, and the words above as one token each."""
    letters = [chr(code) for code in range(33, 127)]
    vocab = {piece: i for i, piece in enumerate([*letters, *(f"{letter}</w>" for letter in letters)])}
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        pieces = [*word[:-1], f"{word[-1]}</w>"]
        while len(pieces) > 1:
            pair = (pieces[0], pieces[1])
            if pair not in merges:
                merges.append(pair)
                vocab.setdefault("".join(pair), len(vocab))
            pieces[:2] = ["".join(pair)]
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)


def text_values(made: CLIPTokenizer) -> dict:
    return {
        "vocab_size": len(made),
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": made.bos_token_id,
        "eos_token_id": made.eos_token_id,
        "pad_token_id": made.pad_token_id,
    }


def save_pipeline(folder: Path) -> Path:
    """64 px, 4 latent channels, in the Stable Diffusion layout."""
    torch.manual_seed(0)
    made = tokenizer()
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 32),
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(CLIPTextConfig(**text_values(made))),
        tokenizer=made,
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="v_prediction", steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_clip(folder: Path, seed: int = 0, **changes: object) -> Path:
    """32 px, 16 features, with its tokenizer and preprocessing."""
    torch.manual_seed(seed)
    made = tokenizer()
    vision = {
        "hidden_size": 32,
        "intermediate_size": 37,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    config = CLIPConfig(projection_dim=16, vision_config=vision, text_config=text_values(made))
    CLIPModel(config).save_pretrained(folder)
    made.save_pretrained(folder)
    preprocessing = {
        "size": {"longest_edge": 32},
        "do_pad": True,
        "resample": 3,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
        **changes,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing))
    return folder

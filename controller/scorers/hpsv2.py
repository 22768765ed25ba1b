"""HPSv2 and HPSv2.1 (arXiv 2306.09341) from the authors' own file, without their package.

The file is an open_clip ViT-H-14. Its weights are laid into transformers' CLIPModel, which computes the same
numbers. The score is the cosine of picture and prompt: typically 0.2 to 0.35, papers print it times 100.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from contracts.errors import CheckpointError
from controller.checkpoints import file_digest
from controller.scorers.clip_text import clean, openai_tokenizer
from controller.scorers.cosine import CosineScorer, Formula, Tokenize
from controller.scorers.preprocessing import Preprocessing
from controller.scorers.tensors import Dtype, Source, fill, quiet, read_tensors, torch_device, torch_dtype

VIT_H_14: Mapping[str, Any] = {
    "embed_dim": 1024,
    "vision_cfg": {"image_size": 224, "layers": 32, "width": 1280, "head_width": 80, "patch_size": 14},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 1024, "heads": 16, "layers": 24},
}
"""The shape of every published file, in open_clip's words."""

RELEASES = {"HPS_v2_compressed": "v2.0", "HPS_v2.1_compressed": "v2.1"}


def load_hpsv2(
    path: Path | str,
    name: str,
    *,
    device: str = "cpu",
    dtype: Dtype = "float32",
    batch_size: int = 32,
    antialias: bool = True,
) -> CosineScorer:
    """`HPS_v2.1_compressed.pt` or `HPS_v2_compressed.pt`; `antialias=False` resizes as torchvision before
    0.17.

    A file of another shape has its `open_clip_config.json` beside it, and a vocabulary other than CLIP's as
    `tokenizer.json`, or `vocab.json` and `merges.txt`. Raises CheckpointError that lists what does not fit.
    """
    file = Path(path)
    wanted, place = torch_dtype(dtype), torch_device(device)
    tensors = read_tensors(file)
    shape, tokenizer = _shape(file), _tokenizer(file)
    _check_vocabulary(file, tokenizer, shape)
    config = clip_config(shape, tokenizer.eos_token_id)
    model = fill(
        lambda: CLIPModel(config),
        source,
        tensors,
        dtype=wanted,
        device=place,
        what=f"{file} as HPSv2",
        unused=lambda tensor: tensor.endswith("attn_mask"),
    )
    return CosineScorer(
        "hpsv2",
        name,
        model,
        _tokenize(tokenizer),
        Preprocessing(shape["vision_cfg"]["image_size"], "longest", antialias),
        Formula(),
        release=RELEASES.get(file.stem, ""),
        weights=file_digest(file),
        batch_size=batch_size,
    )


def clip_config(shape: Mapping[str, Any], end_token: int) -> CLIPConfig:
    """transformers' configuration for a shape in open_clip's words; a text is read at `end_token`."""
    vision, text = shape["vision_cfg"], shape["text_cfg"]
    common = {"hidden_act": "gelu", "layer_norm_eps": 1e-5, "projection_dim": shape["embed_dim"]}
    return CLIPConfig(
        projection_dim=shape["embed_dim"],
        vision_config={
            **common,
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        text_config={
            **common,
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "eos_token_id": end_token,
            "bos_token_id": None,
        },
    )


PLAIN = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
}
TRANSPOSED = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
NORMS = {
    "text_model.final_layer_norm": "ln_final",
    "vision_model.pre_layrnorm": "visual.ln_pre",
    "vision_model.post_layernorm": "visual.ln_post",
}
BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
"""open_clip keeps the three in one tensor, in this order."""


def source(name: str) -> Source:
    """Where open_clip keeps a weight of CLIPModel."""
    if name in PLAIN:
        return Source(PLAIN[name])
    if name in TRANSPOSED:
        return Source(TRANSPOSED[name], torch.t)
    stem, leaf = name.rsplit(".", 1)
    if stem in NORMS:
        return Source(f"{NORMS[stem]}.{leaf}")
    tower, layer, part = stem.replace(".encoder.layers.", " ").replace(".", " ", 1).split(" ", 2)
    block = f"{'visual.' if tower == 'vision_model' else ''}transformer.resblocks.{layer}"
    if part in PROJECTIONS:
        return Source(f"{block}.attn.in_proj_{leaf}", partial(_third, PROJECTIONS.index(part)))
    return Source(f"{block}.{BLOCK[part]}.{leaf}")


def _third(index: int, tensor: torch.Tensor) -> torch.Tensor:
    size = tensor.shape[0] // 3
    return tensor[index * size : (index + 1) * size]


def _shape(file: Path) -> Mapping[str, Any]:
    path = file.parent / "open_clip_config.json"
    if not path.is_file():
        return VIT_H_14
    try:
        shape: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))["model_cfg"]
        clip_config(shape, 0)
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path} does not say what shape the model has: {error}") from error
    return shape


def _tokenizer(file: Path) -> CLIPTokenizer:
    if not any((file.parent / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        return openai_tokenizer()
    try:
        with quiet():
            made: CLIPTokenizer = CLIPTokenizer.from_pretrained(file.parent, local_files_only=True)
    except Exception as error:  # tokenizers raises plain Exception
        cause = " ".join(str(error).split())[:200]
        raise CheckpointError(f"the vocabulary in {file.parent} cannot be read: {cause}") from error
    return made


def _check_vocabulary(file: Path, tokenizer: CLIPTokenizer, shape: Mapping[str, Any]) -> None:
    if len(tokenizer) > shape["text_cfg"]["vocab_size"]:
        raise CheckpointError(
            f"the vocabulary for {file} has {len(tokenizer)} tokens, its open_clip_config.json says "
            f"{shape['text_cfg']['vocab_size']}: put the model's own tokenizer.json beside it"
        )


def _tokenize(tokenizer: CLIPTokenizer) -> Tokenize:
    encode: Any = tokenizer
    return lambda text: encode(clean(text), verbose=False)["input_ids"]

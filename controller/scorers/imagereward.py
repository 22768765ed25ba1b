"""ImageReward v1.0 (arXiv 2304.05977) from the authors' own file, without their package.

A ViT reads the picture, BERT reads the prompt and looks at the picture in every layer (BLIP, arXiv
2201.12086), a linear head turns its first token into a reward of about mean 0 and deviation 1 over the
authors' data. Both towers are transformers' BLIP classes, which compute the same numbers.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import BertTokenizer, BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from contracts.errors import CheckpointError
from contracts.records import Image
from controller.checkpoints import file_digest
from controller.scorers.preprocessing import Preprocessing
from controller.scorers.scoring import REMEMBERED, BatchedScorer, within
from controller.scorers.tensors import (
    Dtype,
    Source,
    Tensors,
    fill,
    read_tensors,
    torch_device,
    torch_dtype,
)

MEAN, STD = 0.16717362830052426, 1.0333394966054072
"""Of the raw reward, from the authors' code."""
TEXT_LENGTH = 35
"""Tokens of a prompt that are read, padding included."""
VISION_HEADS = 16
"""Of ViT-L; the file does not tell."""
HEAD_WIDTHS = (1024, 128, 64, 16, 1)
HEAD_LAYERS = (0, 2, 4, 6, 7)
"""Places of the linear layers in the head; those between are dropout."""
ADDED_TOKENS = ("[DEC]", "[ENC]")
"""BLIP's own, after BERT's vocabulary."""

BERT_BASE: Mapping[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 30524,
    "max_position_embeddings": 512,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}
"""What the published med_config.json says; used where there is none beside the weights."""


class RewardNetwork(nn.Module):
    """Picture and tokens -> raw reward. Shapes: N pairs, L tokens."""

    def __init__(self, vision: BlipVisionConfig, text: BlipTextConfig) -> None:
        super().__init__()
        self.vision = BlipVisionModel(vision)
        self.text = BlipTextModel(text, add_pooling_layer=False)
        inputs = (text.hidden_size, *HEAD_WIDTHS[:-1])
        # There is no activation in between: the authors' head is linear.
        self.head = nn.Sequential(*(nn.Linear(i, o) for i, o in zip(inputs, HEAD_WIDTHS, strict=True)))

    def forward(self, pixels: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """pixels (N, 3, S, S), ids and mask (N, L) -> float32 (N,)."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        read = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], dtype=torch.long, device=seen.device),
            is_decoder=False,
        ).last_hidden_state
        reward: torch.Tensor = self.head(read[:, 0].float())[:, 0]
        return reward


class ImageRewardScorer(BatchedScorer):
    """A Scorer. Use `load_imagereward`."""

    kind = "imagereward"

    def __init__(
        self,
        name: str,
        network: RewardNetwork,
        tokenizer: BertTokenizer,
        prepare: Preprocessing,
        *,
        weights: str,
        batch_size: int = 32,
    ) -> None:
        """`weights` is the digest of the file. Other arguments as of BatchedScorer."""
        parameter = next(network.text.parameters())
        dtype = str(parameter.dtype).removeprefix("torch.")
        options = {**prepare.options(), "dtype": dtype}
        super().__init__(name, "v1.0", weights, options, parameter.device, batch_size)
        self._network, self._tokenizer, self._prepare = network, tokenizer, prepare
        self._dtype = parameter.dtype
        self._texts: OrderedDict[str, list[int]] = OrderedDict()

    def _values(self, images: Sequence[Image], prompts: Sequence[str]) -> torch.Tensor:
        ids = torch.zeros((len(prompts), TEXT_LENGTH), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            tokens = self._tokens(prompt)
            ids[row, : len(tokens)], mask[row, : len(tokens)] = torch.tensor(tokens), 1
        pixels = self._prepare(images).to(self._device, self._dtype)
        raw: torch.Tensor = self._network(pixels, ids.to(self._device), mask.to(self._device))
        return (raw - MEAN) / STD

    def _tokens(self, prompt: str) -> list[int]:
        if prompt not in self._texts:
            encode: Any = self._tokenizer
            self._texts[prompt] = within(
                encode(prompt, verbose=False)["input_ids"], TEXT_LENGTH, self.name, prompt
            )
            if len(self._texts) > REMEMBERED:
                self._texts.popitem(last=False)
        return self._texts[prompt]


def load_imagereward(
    path: Path | str,
    name: str,
    *,
    device: str = "cpu",
    dtype: Dtype = "float32",
    batch_size: int = 32,
) -> ImageRewardScorer:
    """`ImageReward.pt`, with BERT's `vocab.txt` beside it and, for a shape of one's own, `med_config.json`.

    Raises CheckpointError that lists what is missing or does not fit.
    """
    file = Path(path)
    wanted, place = torch_dtype(dtype), torch_device(device)
    tensors = read_tensors(file)
    tokenizer = _tokenizer(file)
    network = build(
        tensors, _bert(file), VISION_HEADS, what=f"{file} as ImageReward", dtype=wanted, device=place
    )
    known = network.text.config.vocab_size
    if len(tokenizer) > known:
        raise CheckpointError(
            f"the vocabulary beside {file} has {len(tokenizer)} tokens, the model knows {known}: take the "
            "vocab.txt of bert-base-uncased"
        )
    size = network.vision.config.image_size
    assert isinstance(size, int)
    prepare = Preprocessing(size, "shortest", center="even")
    return ImageRewardScorer(
        name, network, tokenizer, prepare, weights=file_digest(file), batch_size=batch_size
    )


def build(
    tensors: Tensors,
    bert: Mapping[str, Any],
    vision_heads: int,
    *,
    what: str,
    dtype: torch.dtype = torch.float32,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> RewardNetwork:
    """The network from the file's tensors; the ViT's size is read off them. Raises CheckpointError."""
    vision = _vision(tensors, vision_heads, what)
    text = BlipTextConfig(
        **bert,
        # The class adds cross-attention to "decoders" only; the forward pass then says that it is none.
        is_decoder=True,
        encoder_hidden_size=vision.hidden_size,
        # Unused here, and their defaults lie outside a small vocabulary.
        bos_token_id=None,
        sep_token_id=None,
    )
    network = fill(
        lambda: RewardNetwork(vision, text),
        source,
        tensors,
        dtype=dtype,
        device=device,
        what=what,
        unused=_unused,
    )
    assert isinstance(network, RewardNetwork)
    network.head.float()
    return network


VISION_PARTS = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding": "patch_embed.proj",
    "post_layernorm": "norm",
}
VISION_BLOCK = {
    "layer_norm1": "norm1",
    "layer_norm2": "norm2",
    "self_attn.qkv": "attn.qkv",
    "self_attn.projection": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def source(name: str) -> Source:
    """Where ImageReward.pt keeps a weight of RewardNetwork."""
    tower, rest = name.split(".", 1)
    if tower == "text":
        return Source(f"blip.text_encoder.{rest}")
    if tower == "head":
        number, leaf = rest.split(".")
        return Source(f"mlp.layers.{HEAD_LAYERS[int(number)]}.{leaf}")
    if rest in VISION_PARTS:
        return Source(f"blip.visual_encoder.{VISION_PARTS[rest]}")
    stem, leaf = rest.rsplit(".", 1)
    if stem in VISION_PARTS:
        return Source(f"blip.visual_encoder.{VISION_PARTS[stem]}.{leaf}")
    layer, part = stem.removeprefix("encoder.layers.").split(".", 1)
    return Source(f"blip.visual_encoder.blocks.{layer}.{VISION_BLOCK[part]}.{leaf}")


def _unused(name: str) -> bool:
    """BLIP's contrastive projections, which the reward does not use, and a buffer of 0, 1, 2, ..."""
    return name.startswith(("blip.vision_proj.", "blip.text_proj.")) or name.endswith(".position_ids")


def _vision(tensors: Tensors, heads: int, what: str) -> BlipVisionConfig:
    places = tensors.get("blip.visual_encoder.pos_embed")
    patches = tensors.get("blip.visual_encoder.patch_embed.proj.weight")
    if places is None or patches is None or places.ndim != 3 or patches.ndim != 4:
        raise CheckpointError(
            f"{what} does not fit: it lacks blip.visual_encoder.pos_embed or "
            "blip.visual_encoder.patch_embed.proj.weight, which tell the picture's size"
        )
    width, patch = patches.shape[0], patches.shape[-1]
    layers = {name.split(".")[3] for name in tensors if name.startswith("blip.visual_encoder.blocks.")}
    return BlipVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=len(layers),
        num_attention_heads=heads,
        image_size=round((places.shape[1] - 1) ** 0.5) * patch,
        patch_size=patch,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
    )


def _bert(file: Path) -> Mapping[str, Any]:
    path = file.parent / "med_config.json"
    if not path.is_file():
        return BERT_BASE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return {key: type(value)(raw[key]) for key, value in BERT_BASE.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} does not say what shape the text encoder has: {error}") from error


def _tokenizer(file: Path) -> BertTokenizer:
    path = file.parent / "vocab.txt"
    if not path.is_file():
        raise CheckpointError(
            f"ImageReward reads prompts with BERT's vocabulary, which is not beside {file}: "
            f"hf download google-bert/bert-base-uncased vocab.txt --local-dir {file.parent}"
        )
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    vocab = {word: number for number, word in enumerate([*lines, *ADDED_TOKENS])}
    if missing := [word for word in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if word not in vocab]:
        raise CheckpointError(f"{path} is no vocabulary of BERT: {missing[0]} is not in it")
    return BertTokenizer(vocab=vocab)

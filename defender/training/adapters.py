"""What a training changes: everything, or the paper's set with low-rank adapters (LoRA, arXiv 2106.09685).

The paper's stage 1 puts adapters on LLaMA's query and value projections and trains the word embeddings, the
output layer, SAM's mask decoder and the projection of [SEG] in full. Adapters are a matter of training alone:
a finished checkpoint holds W + (alpha / r) B A in place of W, so that it is read like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from contracts.errors import InvalidInput
from defender.config import LoraSettings
from defender.model import Legion

Trainable = Literal["all", "paper"]

PAPER_TRAINABLE = ("lm_head", "embed_tokens", "mask_decoder", "text_hidden_fcs")
"""Name parts of what stage 1 of the paper trains in full, beside the low-rank adapters."""
_ADAPTER = ".lora_"
_BASE = ".base_layer."


def choose_trainable(model: Legion, trainable: Trainable, frozen_dtype: torch.dtype = torch.float32) -> None:
    """Switch gradients on for what stage 1 trains: everything but the detection head, or the paper's set.

    The paper's set includes adapters, if they were added. What stays frozen is held in `frozen_dtype`, except
    for the detection head, which a joint training trains.
    """
    for name, parameter in model.named_parameters():
        wanted = trainable == "all" or any(part in name for part in (*PAPER_TRAINABLE, _ADAPTER))
        head = name.startswith("prediction_head")
        parameter.requires_grad_(wanted and not head)
        if not (wanted or head):
            parameter.data = parameter.data.to(frozen_dtype)


def add_adapters(model: Legion, settings: LoraSettings, seed: int = 0) -> None:
    """Put adapters on LLaMA's own projections, in place; CLIP has layers of the same names and gets none.

    They change nothing until they are trained (B starts at 0). Raises InvalidInput where peft is missing.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise InvalidInput(
            "training with low-rank adapters needs peft: run pip install 'legion-studio[peft]'"
        ) from error
    layers = r"model\.layers\.\d+\.(self_attn|mlp)\.(" + "|".join(settings.targets) + ")"
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        bias="none",
        target_modules=layers,
    )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise InvalidInput(
            f"lora.targets {', '.join(settings.targets)} names no layer of the language model: "
            "choose from q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
        ) from error


def fold(weights: Mapping[str, Tensor], settings: LoraSettings) -> dict[str, Tensor]:
    """Weights of a network with adapters -> those of the plain one that computes the same."""
    plain = {name.replace(_BASE, "."): value for name, value in weights.items() if _ADAPTER not in name}
    for name, down in weights.items():
        if ".lora_A." in name:
            up = weights[name.replace(".lora_A.", ".lora_B.")]
            target = name.split(".lora_A.")[0] + ".weight"
            change = (settings.alpha / settings.r) * (up.float() @ down.float())
            plain[target] = (plain[target].float() + change).to(plain[target].dtype)
    return plain

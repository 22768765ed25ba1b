"""Small checkpoints of the published scorers in their real layouts, with weights of the parity fixtures."""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file
from tiny_checkpoints import tokenizer
from upstream_fixtures import FIXTURES

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a red blue cone ball on the table ##s ,".split()


def weights_of(fixture: str) -> OrderedDict[str, torch.Tensor]:
    """The weights in a fixture, by their names in the published file."""
    known = load_file(FIXTURES / f"{fixture}.safetensors")
    return OrderedDict(
        (name.removeprefix("weights."), tensor.clone())
        for name, tensor in known.items()
        if name.startswith("weights.")
    )


def save_hps(folder: Path, weights=None, name: str = "HPS_v2.1_compressed.pt") -> Path:
    """{"state_dict": ...} in half precision, as published, with the small shape and vocabulary beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = weights_of("hps_tiny_openclip") if weights is None else weights
    torch.save({"state_dict": OrderedDict((k, v.half()) for k, v in weights.items())}, folder / name)
    shape = json.loads((FIXTURES / "hps_tiny_openclip.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": shape}))
    tokenizer().save_pretrained(folder)
    return folder / name


def save_imagereward(folder: Path, weights=None) -> Path:
    """A flat table of weights, as published, with BERT's small configuration and vocabulary beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights_of("imagereward_tiny") if weights is None else weights, folder / "ImageReward.pt")
    bert = bert_values()
    (folder / "med_config.json").write_text(json.dumps({"architectures": ["BertModel"], **bert}))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder / "ImageReward.pt"


def bert_values() -> dict:
    """The fixture's text encoder in the words of med_config.json."""
    shape = json.loads((FIXTURES / "imagereward_tiny.json").read_text())["bert"]
    return {
        "hidden_size": shape["hidden_size"],
        "num_hidden_layers": shape["layers"],
        "num_attention_heads": shape["heads"],
        "intermediate_size": shape["intermediate"],
        "vocab_size": shape["vocab_size"],
        "max_position_embeddings": shape["max_pos"],
        "layer_norm_eps": shape["ln_eps"],
        "hidden_act": shape["act"],
    }

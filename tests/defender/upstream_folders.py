"""Tiny checkpoints in the layouts in which the original authors publish theirs."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from defender.config import LegionConfig

FIXTURES = Path(__file__).parent.parent / "parity" / "fixtures"
CLIP = "model.vision_tower.vision_tower."
SAM = "model.grounding_encoder."
HEAD = "prediction_head."

BASE = replace(LegionConfig(), sam=replace(LegionConfig().sam, decoder_heads=4))
"""The tiny network has other decoder heads than every real SAM, which no file of a checkpoint tells."""


def tiny_weights() -> dict[str, torch.Tensor]:
    """Everything there is, under upstream's names."""
    return load_file(FIXTURES / "legion_tiny_weights.safetensors")


def merged_weights() -> dict[str, torch.Tensor]:
    """What a merged LEGION folder holds: no vision tower, no head, but a region encoder nobody needs."""
    weights = {n: v for n, v in tiny_weights().items() if not n.startswith((CLIP, HEAD))}
    return weights | {"model.region_encoder.roi_align.updims.weight": torch.zeros(4, 4)}


def write_settings(folder: Path) -> None:
    """config.json and tokenizer of a merged folder; 96 pieces at most leave ids 121 to 127 to the added."""
    from defender.text import train_tokenizer

    known = json.loads((FIXTURES / "legion_tiny_config.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": "llava", "architectures": ["LegionForCausalLM"], "rope_scaling": None}
    (folder / "config.json").write_text(json.dumps(values | known["llama"]))
    ids = known["token_ids"]
    names = {"im_start": "<im_start>", "im_end": "<im_end>", "bbox": "<bbox>", "point": "<point>"}
    names |= {"seg": "[SEG]", "p": "<p>", "ep": "</p>"}
    (folder / "added_tokens.json").write_text(json.dumps({names[n]: i for n, i in ids.items()}))
    train_tokenizer(["a ball on a table, a ball that floats"], folder / "tokenizer.model", 96)


def write_shards(folder: Path, weights: dict[str, torch.Tensor], count: int = 2) -> None:
    """pytorch_model-0000N-of-0000M.bin with their index."""
    names = sorted(weights)
    placed = {}
    for i in range(count):
        shard = f"pytorch_model-{i + 1:05d}-of-{count:05d}.bin"
        mine = names[i::count]
        torch.save({n: weights[n].clone() for n in mine}, folder / shard)
        placed |= dict.fromkeys(mine, shard)
    index = {"metadata": {"total_size": 0}, "weight_map": placed}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def write_clip(folder: Path) -> Path:
    """A CLIP folder as on the hub: both towers in one file, and a nested configuration."""
    folder.mkdir()
    known = json.loads((FIXTURES / "legion_tiny_config.json").read_text())["clip"]
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": known}))
    tower = {n.removeprefix(CLIP): v for n, v in tiny_weights().items() if n.startswith(CLIP)}
    other = {"text_model.final_layer_norm.weight": torch.ones(3), "logit_scale": torch.tensor(1.0)}
    torch.save(tower | other, folder / "pytorch_model.bin")
    return folder


def write_merged(folder: Path) -> Path:
    """A merged LEGION folder."""
    write_settings(folder)
    write_shards(folder, merged_weights())
    return folder

"""What a checkpoint is, read from its headers alone: parts, sizes, types, digest, thresholds.

Works on this project's folders and on other people's, before and after an import.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from contracts.errors import CheckpointError
from defender.checkpoint import CONFIG, WEIGHTS, Thresholds, digest_of, read_thresholds
from defender.config import LegionConfig
from defender.importing import HEAD_PREFIX, PEFT_PREFIX, SAM_PREFIX
from defender.tensor_files import Stored, open_file, open_folder

PARTS = {
    "language model": ("model.embed_tokens.", "model.layers.", "model.norm.", "lm_head."),
    "vision tower": ("model.vision_tower.", "vision_model."),
    "projector": ("model.mm_projector.",),
    "mask prompts": ("model.text_hidden_fcs.",),
    "SAM image encoder": (f"{SAM_PREFIX}image_encoder.", "image_encoder."),
    "SAM prompt encoder": (f"{SAM_PREFIX}prompt_encoder.", "prompt_encoder."),
    "SAM mask decoder": (f"{SAM_PREFIX}mask_decoder.", "mask_decoder."),
    "detection head": (HEAD_PREFIX,),
    "region encoder": ("model.region_encoder.",),
}
"""Parts of the network by the beginnings of their names; adapters and the rest are counted apart."""
ADAPTERS, OTHER = "low-rank adapters", "other"
_NEEDED = [part for part in PARTS if part != "region encoder"]


@dataclass(frozen=True)
class Part:
    """One part of a checkpoint."""

    name: str
    tensors: int
    parameters: int
    bytes: int
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class Description:
    """A checkpoint as a person wants to know it."""

    kind: str
    parts: tuple[Part, ...]
    absent: tuple[str, ...]
    """Parts of the network that are not there, or not trained."""
    image_tokens: int | None
    """Positions a picture takes; None where the folder does not say."""
    sam_canvas: int | None
    """Side of SAM's canvas, pixels."""
    digest: str | None
    """sha256 over configuration, weights and tokenizer; None for other people's folders."""
    thresholds: Thresholds | None

    @property
    def bytes(self) -> int:
        """Size of all weights."""
        return sum(part.bytes for part in self.parts)

    @property
    def parameters(self) -> int:
        """How many numbers."""
        return sum(part.parameters for part in self.parts)

    def to_json(self) -> str:
        """One JSON object, on one line."""
        return json.dumps({**asdict(self), "bytes": self.bytes, "parameters": self.parameters})


def describe(path: Path) -> Description:
    """Describe a checkpoint folder or weights file, ours or another's. Raises CheckpointError."""
    if not path.exists():
        raise CheckpointError(f"cannot read {path} (no such file or folder)")
    if path.is_dir() and _is_ours(path / CONFIG):
        return _describe_ours(path)
    parts = measure(open_folder(path) if path.is_dir() else open_file(path))
    absent = _absent(parts)
    return Description(_kind_of(path, parts, absent), parts, absent, None, None, None, None)


def _kind_of(path: Path, parts: tuple[Part, ...], absent: tuple[str, ...]) -> str:
    if ADAPTERS in [part.name for part in parts]:
        kind = "raw training checkpoint, adapters not merged"
    elif {"language model", "projector", "mask prompts"}.isdisjoint(absent):
        kind = "merged checkpoint"
    else:
        kind = "weights of a part"
    named = _config_values(path / CONFIG).get("architectures") or ["another project's layout"]
    return f"{kind} ({', '.join(map(str, named))})"


def measure(weights: Mapping[str, Stored]) -> tuple[Part, ...]:
    """Count a checkpoint's tensors by part, in the order of PARTS; parts without any are left out."""
    found: dict[str, list[Stored]] = {name: [] for name in (*PARTS, ADAPTERS, OTHER)}
    for name, stored in weights.items():
        found[part_of(name)].append(stored)
    return tuple(
        Part(
            name,
            len(tensors),
            sum(prod(stored.shape) for stored in tensors),
            sum(stored.bytes for stored in tensors),
            tuple(sorted({str(stored.dtype).removeprefix("torch.") for stored in tensors})),
        )
        for name, tensors in found.items()
        if tensors
    )


def part_of(name: str) -> str:
    """Which part a weight belongs to."""
    plain = name.removeprefix(PEFT_PREFIX)
    if ".lora_" in plain:
        return ADAPTERS
    return next((part for part, begins in PARTS.items() if plain.startswith(begins)), OTHER)


def _absent(parts: tuple[Part, ...]) -> tuple[str, ...]:
    there = {part.name for part in parts}
    return tuple(name for name in _NEEDED if name not in there)


def _describe_ours(folder: Path) -> Description:
    config = LegionConfig.from_json((folder / CONFIG).read_text(encoding="utf-8"))
    parts = measure(open_file(folder / WEIGHTS))
    absent = _absent(parts)
    if not config.has_detection and "detection head" not in absent:
        absent = (*absent, "detection head")
    try:
        digest = digest_of(folder)
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename}: {error.strerror}") from error
    return Description(
        "LEGION, ready for use",
        parts,
        absent,
        config.image_tokens,
        config.sam.image_size,
        digest,
        read_thresholds(folder),
    )


def _is_ours(path: Path) -> bool:
    return str(_config_values(path).get("format", "")).startswith("legion-defender/")


def _config_values(path: Path) -> dict[str, Any]:
    """A config.json as it is; empty where there is none to read."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}

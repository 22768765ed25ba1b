"""A defender on disk: one folder that describes itself.

config.json         every size and word of the network (defender/config.py)
model.safetensors   weights under LEGION's names
tokenizer.model     SentencePiece
thresholds.json     when a finding counts (may be missing: then defaults)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from contracts.digests import blocks, sha256_of
from contracts.errors import CheckpointError, InvalidInput
from defender.config import LegionConfig
from defender.four_bit import pack
from defender.model import Legion
from defender.tensor_files import Stored, misfits, open_file
from defender.text import Dialog, Tokenizer

CONFIG, WEIGHTS = "config.json", "model.safetensors"
TOKENIZER, THRESHOLDS = "tokenizer.model", "thresholds.json"


@dataclass(frozen=True)
class Thresholds:
    """When the defender speaks up. Chosen on a calibration split, kept beside the weights."""

    artifact_probability: float = 0.5
    """Smallest share of the "there are artifacts" opening, 0..1."""
    min_confidence: float = 0.0
    """Smallest confidence of a finding, 0..1."""
    min_area: float = 0.0
    """Smallest share of the picture that a finding covers, 0..1."""
    mask_probability: float = 0.5
    """A pixel is inside a mask where its probability is above this."""
    detection_scale: float = 1.0
    """The probability of "generated" is sigmoid(scale * logit + shift): Platt's calibration, any number."""
    detection_shift: float = 0.0
    tile_confidence: float = 0.0
    """Smallest confidence of a finding where tiles are looked at as well, 0..1."""
    max_noise: float = 1.0
    """A picture with more noise than this, as a standard deviation on a scale on which white is 1, is
    denoised before it is looked at; 1: none is."""

    def to_json(self) -> str:
        """Every threshold; those of tiles and noise only where used: an older version reads the rest."""
        unused = {"tile_confidence": 0.0, "max_noise": 1.0}
        values = {name: value for name, value in asdict(self).items() if unused.get(name) != value}
        return json.dumps(values, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Thresholds:
        """Raises CheckpointError on anything but numbers in their range under the known names."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise CheckpointError(f"{THRESHOLDS} is not valid JSON ({error}): calibrate again") from error
        known = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or not set(values) <= known:
            raise CheckpointError(f"{THRESHOLDS} may only set {', '.join(sorted(known))}: calibrate again")
        for name, value in values.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise CheckpointError(f"{THRESHOLDS}: {name} must be a number, not {value!r}")
            if not (0 <= value <= 1 or name.startswith("detection_")):
                raise CheckpointError(f"{THRESHOLDS}: {name} must be from 0 to 1, not {value!r}")
        return cls(**{name: float(value) for name, value in values.items()})


@dataclass(frozen=True)
class Checkpoint:
    """A network with everything it needs to be used."""

    model: Legion
    dialog: Dialog
    thresholds: Thresholds
    digest: str
    """sha256 over configuration, weights and tokenizer."""


def save(
    folder: Path,
    model: Legion,
    tokenizer: Tokenizer,
    thresholds: Thresholds | None = None,
    dtype: torch.dtype = torch.float16,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a checkpoint; matrices are stored as `dtype`, the positional buffer of SAM as it is.

    `weights` take the place of the network's own, under the same names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    buffers = {name for name, _ in model.named_buffers()}
    stored = {
        name: (value if name in buffers else value.to(dtype)).detach().cpu().contiguous()
        for name, value in (model.state_dict() if weights is None else weights).items()
    }
    partial = folder / f"{WEIGHTS}.tmp"
    save_file(stored, partial, metadata={"format": "pt"})
    partial.replace(folder / WEIGHTS)
    (folder / CONFIG).write_text(model.config.to_json() + "\n")
    (folder / TOKENIZER).write_bytes(tokenizer.model)
    if thresholds is not None:
        save_thresholds(folder, thresholds)


def save_thresholds(folder: Path, thresholds: Thresholds) -> None:
    """Write only the thresholds, as a calibration does."""
    partial = folder / f"{THRESHOLDS}.tmp"
    partial.write_text(thresholds.to_json() + "\n")
    partial.replace(folder / THRESHOLDS)


def load(
    folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, four_bit: bool = False
) -> Checkpoint:
    """Read a checkpoint, in evaluation mode, with the language model's matrices in four bits if wanted.

    Raises CheckpointError, in one line, on a missing or broken file and on any missing, unexpected or
    misshapen weight; InvalidInput on a device that is not there, or without bitsandbytes. The network is laid
    out without memory and takes over the tensors as they are read, so loading needs little more than the
    weights themselves.
    """
    place = find_device(device)
    config = LegionConfig.from_json(_read(folder / CONFIG))
    tokenizer = Tokenizer.load(folder / TOKENIZER, config.tokens)
    thresholds = read_thresholds(folder) or Thresholds()
    stored = open_file(folder / WEIGHTS)
    if wrong := misfits(Legion.without_memory(config).state_dict(), stored):
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its config.json: {wrong}")
    model = filled(config, stored, place, dtype, four_bit)
    return Checkpoint(model, Dialog(config, tokenizer), thresholds, digest_of(folder))


def filled(
    config: LegionConfig,
    stored: Mapping[str, Stored],
    device: torch.device,
    dtype: torch.dtype,
    four_bit: bool = False,
) -> Legion:
    """The network of that configuration with these weights, which must fit it; in evaluation mode.

    Raises InvalidInput for four bits without bitsandbytes.
    """
    model = Legion.without_memory(config)
    packed = pack(model, stored, device, dtype) if four_bit else frozenset()
    weights = {name: _read_weight(s, device, dtype) for name, s in stored.items() if name not in packed}
    # Everything is there, as was checked; the packed matrices are in their place already.
    model.load_state_dict(weights, assign=True, strict=False)
    model.restore_buffers()
    model.requires_grad_(False)
    return model.to(device).eval()


def read_thresholds(folder: Path) -> Thresholds | None:
    """What a calibration left beside the weights, if there was one. Raises CheckpointError."""
    path = folder / THRESHOLDS
    return Thresholds.from_json(_read(path)) if path.exists() else None


def is_other_projects(folder: Path) -> bool:
    """Whether the folder's config.json is one of a kind that this project does not write."""
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and "format" not in values


def find_device(name: str) -> torch.device:
    """The device of that name. Raises InvalidInput if torch does not know it or does not see it here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"device {name!r} is unknown: choose cpu, cuda or cuda:0, cuda:1, ...") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        seen = torch.cuda.device_count()
        raise InvalidInput(
            f"device {name!r} is not there: torch sees {seen or 'no'} CUDA device{'' if seen == 1 else 's'}; "
            "choose another, or cpu"
        )
    return device


def digest_of(folder: Path) -> str:
    """sha256 over configuration, weights and tokenizer of a checkpoint."""
    return sha256_of(piece for name in (CONFIG, WEIGHTS, TOKENIZER) for piece in blocks(folder / name))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise CheckpointError(f"cannot read {path} ({reason}): is it a defender checkpoint?") from error


def _read_weight(stored: Stored, device: torch.device, dtype: torch.dtype) -> Tensor:
    # A tensor of the right type stays in the file's map; a converted one leaves nothing of it behind.
    value = stored.read()
    return value.to(device, dtype if value.is_floating_point() else None)

"""Every number that makes one LEGION different from another, with a JSON round trip.

The defaults are those of the released 8B checkpoints (GLaMM's layout: Vicuna-7B, CLIP ViT-L/14-336 and SAM
ViT-H). The bundled small defender is the same classes with other numbers.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from contracts.errors import CheckpointError
from prompts import render

IGNORE_INDEX = -100
"""Label of a position that does not count in the answer's loss."""
IMAGE_ID = -200
"""Placeholder id where the image's features are spliced in; it is not in the vocabulary."""

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)
INSTRUCTION = render("legion/analysis")
"""The words the released weights were trained with, to the letter."""


@dataclass(frozen=True)
class VisionConfig:
    """The CLIP tower and its preprocessing. Names as in transformers' CLIPVisionConfig."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    image_size: int = 336
    patch_size: int = 14
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    select_layer: int = -2
    """Which of the num_hidden_layers + 1 hidden states is used; -2 is the input of the last layer."""

    @property
    def image_tokens(self) -> int:
        """Patches, the CLS token not counted: 576 for released weights, 256 in the paper's text."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True)
class LanguageConfig:
    """The LLaMA. Names as in transformers' LlamaConfig."""

    vocab_size: int = 32007
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0


@dataclass(frozen=True)
class SamConfig:
    """SAM's image encoder, prompt encoder and mask decoder, and its preprocessing."""

    image_size: int = 1024
    """Side of the padded square canvas, pixels."""
    resize_to: int = 1024
    """Longest side of the picture on that canvas (training code upstream used 512)."""
    patch_size: int = 16
    embed_dim: int = 1280
    depth: int = 32
    num_heads: int = 16
    mlp_ratio: float = 4.0
    window_size: int = 14
    global_attn_indexes: tuple[int, ...] = (7, 15, 23, 31)
    out_dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    mask_in_chans: int = 16

    @property
    def grid_size(self) -> int:
        """Side of the image embedding."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class TokenIds:
    """Where the special tokens are in the vocabulary."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    im_start: int = 32000
    im_end: int = 32001
    bbox: int = 32002
    point: int = 32003
    seg: int = 32004
    p: int = 32005
    end_p: int = 32006

    @classmethod
    def after(cls, base_vocab_size: int) -> TokenIds:
        """The seven added tokens in upstream's order, right after a base vocabulary."""
        return cls(0, 1, 2, *range(base_vocab_size, base_vocab_size + 7))


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters of stage 1. The paper says alpha 8; the released code trains with 16."""

    r: int = 8
    alpha: int = 16
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "v_proj")


@dataclass(frozen=True)
class LossWeights:
    """Total = ce * CE + bce * BCE + dice * Dice (arXiv 2503.15264, section 4)."""

    ce: float = 1.0
    bce: float = 0.4
    dice: float = 0.2


@dataclass(frozen=True)
class LegionConfig:
    """One LEGION."""

    vision: VisionConfig = field(default_factory=VisionConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    sam: SamConfig = field(default_factory=SamConfig)
    tokens: TokenIds = field(default_factory=TokenIds)
    lora: LoraSettings = field(default_factory=LoraSettings)
    loss: LossWeights = field(default_factory=LossWeights)
    detection_hidden_size: int = 2048
    has_detection: bool = True
    """Whether the detection head was trained; stage 1 alone does not, and no released checkpoint has one."""
    verdict_first: bool = True
    """Whether answers were taught to open with either "there are artifacts" or "there are none", so that the
    first token decides between the two by a threshold. Imported weights were not: plainly greedy."""
    max_new_tokens: int = 512
    max_text_tokens: int = 961
    """Training answers are cut so that the ids of prompt and answer are no more than this."""
    system: str = SYSTEM
    instruction: str = INSTRUCTION

    @property
    def image_tokens(self) -> int:
        """Positions the picture takes in the language model's sequence."""
        return self.vision.image_tokens

    def to_json(self) -> str:
        """Readable JSON, every field spelled out but `verdict_first`, which is written where it is false:
        configurations from before that field stay what they were, to the byte and the digest.
        """
        values = dataclasses.asdict(self)
        if self.verdict_first:
            del values["verdict_first"]
        return json.dumps({"format": "legion-defender/1", **values}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> LegionConfig:
        """The inverse of `to_json`. Raises CheckpointError on broken JSON, an unknown or a mistyped field."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise CheckpointError(f"config.json is not valid JSON ({error}): get it again") from error
        if not isinstance(values, dict) or values.pop("format", None) != "legion-defender/1":
            raise CheckpointError(
                "config.json is not a legion-defender/1 configuration: convert another project's checkpoint "
                "with legion weights import SRC DST, then use DST"
            )
        return _build(cls, values, "")


_T = TypeVar("_T")


def _build(cls: type[_T], values: dict[str, Any], where: str) -> _T:
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise CheckpointError(f"config.json has unknown fields {', '.join(where + name for name in unknown)}")
    return cls(**{name: _convert(hints[name], value, where + name) for name, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        return _build(hint, value, where + ".")  # type: ignore[arg-type]
    if isinstance(value, list):
        return tuple(value)
    if hint is float and isinstance(value, int):
        return float(value)
    if (
        hint in (int, float, str)
        and (not isinstance(value, hint) or isinstance(value, bool))
        or (hint is bool and not isinstance(value, bool))
    ):
        raise CheckpointError(f"config.json: {where} must be {hint.__name__}, not {value!r}")
    return value

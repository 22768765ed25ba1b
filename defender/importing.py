"""Other people's checkpoints, used as they are or converted to a folder of this project: merged LEGION and
GLaMM, and raw stage 1 with LoRA.

A merged folder holds the LLaMA, the projector and SAM, but neither CLIP's tower nor, usually, a detection
head. The tower is taken from a CLIP folder, SAM (where a source has none) from an original `.pth`, and a head
that nobody trained is laid out untrained and not used. Low-rank adapters are merged: W + alpha / r * B @ A
(arXiv 2106.09685). Sizes are read off the tensors, so other variants of CLIP and SAM need no option.

What may be missing or left over is listed here and nowhere else; any other name is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contracts.digests import sha256_of
from contracts.errors import CheckpointError, InvalidInput
from defender.checkpoint import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    Checkpoint,
    Thresholds,
    filled,
    find_device,
    read_thresholds,
)
from defender.config import LanguageConfig, LegionConfig, SamConfig, TokenIds, VisionConfig
from defender.model import Legion
from defender.tensor_files import Stored, misfits, open_file, open_folder, serialized, write_safetensors
from defender.text import Dialog, Tokenizer

CLIP_PREFIX = "model.vision_tower.vision_tower.vision_model."
SAM_PREFIX = "model.grounding_encoder."
HEAD_PREFIX = "prediction_head."
PEFT_PREFIX = "base_model.model."
SAM_PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")

IGNORED = re.compile(r"\.rotary_emb\.inv_freq$|\.embeddings\.position_ids$|^model\.region_encoder\.")
"""Buffers that are computed, and GLaMM's region encoder, which LEGION never runs."""
_CLIP_OTHER = re.compile(r"^(text_model|text_projection|visual_projection|logit_scale)\b|\.position_ids$")
_ADAPTER = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.\w+)?\.weight$")

KNOWN_TOWERS = {
    "openai/clip-vit-large-patch14-336": VisionConfig(),
    "openai/clip-vit-large-patch14": VisionConfig(image_size=224),
}
"""Towers of released checkpoints, by their names in config.json."""

ADDED_TOKENS = {
    "<im_start>": "im_start",
    "<im_end>": "im_end",
    "<bbox>": "bbox",
    "<point>": "point",
    "[SEG]": "seg",
    "<p>": "p",
    "</p>": "end_p",
}


@dataclass(frozen=True)
class Opened:
    """Another project's checkpoint as this project's: none of its tensors is read yet."""

    config: LegionConfig
    tokenizer: Tokenizer
    weights: Mapping[str, Stored]
    merged: int
    """Matrices that low-rank adapters are merged into."""
    ignored: int
    """Tensors of the source that LEGION does not need."""
    sources: Mapping[str, str]
    """Where the tower, SAM and the detection head come from."""

    @property
    def bytes(self) -> int:
        """Size of all weights."""
        return sum(stored.bytes for stored in self.weights.values())

    @property
    def digest(self) -> str:
        """That of the folder which an import makes: a checkpoint is the same one before and after."""
        return sha256_of(chain([_config_text(self.config)], serialized(self.weights), [self.tokenizer.model]))


def load(
    folder: Path,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    four_bit: bool = False,
    *,
    clip: Path | None = None,
    sam: Path | None = None,
) -> Checkpoint:
    """Use another project's folder as it is, with the thresholds of a calibration if there are some in it.

    Arguments are those of `open_checkpoint`; raises as that and as `defender.checkpoint.load`.
    """
    place = find_device(device)
    opened = open_checkpoint(folder, clip=clip, sam=sam)
    model = filled(opened.config, opened.weights, place, dtype, four_bit)
    dialog = Dialog(opened.config, opened.tokenizer)
    return Checkpoint(model, dialog, read_thresholds(folder) or Thresholds(), opened.digest)


def import_weights(
    source: Path,
    target: Path,
    *,
    clip: Path | None = None,
    sam: Path | None = None,
    settings: Path | None = None,
    base: LegionConfig | None = None,
) -> Opened:
    """Convert `source` into a new checkpoint folder `target`. Types are kept.

    Arguments are those of `open_checkpoint`; raises as that, and InvalidInput if `target` is in use. Nothing
    is left behind at `target` then.
    """
    check_target(target)
    opened = open_checkpoint(source, clip=clip, sam=sam, settings=settings, base=base)
    _write(target, opened)
    return opened


def open_checkpoint(
    source: Path,
    *,
    clip: Path | None = None,
    sam: Path | None = None,
    settings: Path | None = None,
    base: LegionConfig | None = None,
) -> Opened:
    """Lay out `source`, a folder or a single weights file, under this project's names.

    `clip` is a folder with CLIP's weights and config.json, `sam` an original SAM `.pth`; each fills only what
    the source lacks. `settings` is the folder with config.json and tokenizer.model, by default the source's
    own. What no file tells (SAM's decoder heads, LoRA's alpha) is taken from `base`.

    Raises CheckpointError, in one line, on anything missing, unexpected, misshapen or damaged.
    """
    if not source.exists():
        raise CheckpointError(f"cannot read {source} (no such file or folder)")
    settings = settings or (source if source.is_dir() else source.parent)
    base = base or LegionConfig()
    upstream = read_upstream_config(settings / CONFIG)
    tokenizer, tokens = _read_tokenizer(settings, upstream)

    weights, ignored = tidy(open_folder(source) if source.is_dir() else open_file(source))
    weights, merged = merge_adapters(weights, _alpha(settings, base))
    given = _add_tower(weights, clip) | _add_sam(weights, sam)
    config = infer_config(weights, upstream, tokens, _clip_config(clip, upstream), base)
    given["detection head"] = "not trained" if not config.has_detection else "the source"
    if not config.has_detection:
        weights |= _untrained_head(config)
    if wrong := misfits(Legion.without_memory(config).state_dict(), weights):
        raise CheckpointError(f"{source} is not a LEGION or GLaMM checkpoint as released: {wrong}")
    return Opened(config, tokenizer, weights, merged, ignored, given)


def check_target(target: Path) -> None:
    """Raises InvalidInput if something is there already."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidInput(f"{target} exists already: choose a new folder")


# ---- names


def tidy(weights: Mapping[str, Stored]) -> tuple[dict[str, Stored], int]:
    """Names without PEFT's wrappers, and how many tensors LEGION does not need. Raises CheckpointError."""
    kept: dict[str, Stored] = {}
    for name, stored in weights.items():
        plain = name.removeprefix(PEFT_PREFIX).replace(".base_layer.", ".")
        if plain in kept:
            raise CheckpointError(f"{stored.source} holds {plain} twice, with and without a PEFT prefix")
        kept[plain] = stored
    needed = {name: stored for name, stored in kept.items() if not IGNORED.search(name)}
    return needed, len(kept) - len(needed)


def merge_adapters(weights: Mapping[str, Stored], alpha: float) -> tuple[dict[str, Stored], int]:
    """Low-rank pairs merged into their matrices when these are read, and how many. Raises CheckpointError."""
    sides: dict[str, dict[str, Stored]] = {}
    for name, stored in weights.items():
        if match := _ADAPTER.match(name):
            sides.setdefault(f"{match['module']}.weight", {})[match["side"]] = stored
    merged = {name: stored for name, stored in weights.items() if not _ADAPTER.match(name)}
    if odd := [name for name, pair in sides.items() if len(pair) != 2 or not _fits(merged.get(name), pair)]:
        raise CheckpointError(
            f"{len(odd)} low-rank adapters lack a half or do not fit their matrix ({', '.join(odd)})"
        )
    for name, pair in sides.items():
        merged[name] = _merge_on_read(merged[name], pair["A"], pair["B"], alpha)
    return merged, len(sides)


def _fits(matrix: Stored | None, pair: Mapping[str, Stored]) -> bool:
    a, b = pair["A"].shape, pair["B"].shape
    return matrix is not None and len(a) == len(b) == 2 and a[0] == b[1] and (b[0], a[1]) == matrix.shape


def _merge_on_read(matrix: Stored, a: Stored, b: Stored, alpha: float) -> Stored:
    scaling = alpha / a.shape[0]

    def read() -> Tensor:
        product = b.read().float() @ a.read().float()
        return (matrix.read().float() + scaling * product).to(matrix.dtype)

    return replace(matrix, read=read)


# ---- parts from elsewhere


def _add_tower(weights: dict[str, Stored], clip: Path | None) -> dict[str, str]:
    if any(name.startswith(CLIP_PREFIX) for name in weights):
        return {"vision tower": "the source"}
    if clip is None:
        raise CheckpointError(
            "the source has no vision tower, as released checkpoints do not: give the folder or the name of "
            "openai/clip-vit-large-patch14-336 with --clip (in a profile: clip)"
        )
    for name, stored in open_folder(clip).items():
        if not _CLIP_OTHER.search(name):
            weights[CLIP_PREFIX + name.removeprefix("vision_model.")] = stored
    return {"vision tower": clip.name}


def _add_sam(weights: dict[str, Stored], sam: Path | None) -> dict[str, str]:
    if any(name.startswith(SAM_PREFIX) for name in weights):
        return {"segmentation": "the source"}
    if sam is None:
        raise CheckpointError(
            "the source has no SAM weights: give the original .pth file with --sam (in a profile: sam)"
        )
    found = open_file(sam)
    if strange := [name for name in found if not name.startswith(SAM_PARTS)]:
        raise CheckpointError(f"{sam} is not an original SAM file: unexpected {', '.join(strange)}")
    weights |= {SAM_PREFIX + name: stored for name, stored in found.items()}
    return {"segmentation": sam.name}


def _untrained_head(config: LegionConfig) -> dict[str, Stored]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = nn.Sequential(
            nn.Linear(config.vision.hidden_size, config.detection_hidden_size),
            nn.ReLU(),
            nn.Linear(config.detection_hidden_size, 2),
        )
    return {
        HEAD_PREFIX + name: Stored(tuple(value.shape), value.dtype, "not trained", _constant(value))
        for name, value in head.state_dict().items()
    }


def _constant(value: Tensor) -> Callable[[], Tensor]:
    return lambda: value


# ---- the configuration


def read_upstream_config(path: Path) -> dict[str, Any]:
    """A config.json as released. Raises CheckpointError if it is missing or of another kind of model."""
    values = _read_json(path)
    if values is None:
        raise CheckpointError(f"{path} is missing: give the folder that has it with --config")
    if "format" in values:
        raise CheckpointError(f"{path.parent} is a checkpoint of this project already: use it as it is")
    if values.get("rope_scaling") is not None:
        raise CheckpointError(f"{path}: rope_scaling is not supported; released checkpoints have none")
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    if absent := [name for name in needed if not isinstance(values.get(name), int)]:
        raise CheckpointError(
            f"{path} does not say {', '.join(absent)}: is it a LEGION or GLaMM config.json?"
        )
    return values


def infer_config(
    weights: Mapping[str, Stored],
    upstream: Mapping[str, Any],
    tokens: TokenIds,
    vision: VisionConfig,
    base: LegionConfig,
) -> LegionConfig:
    """What the files tell, on top of `base`. Raises CheckpointError if the tower is of another width."""
    head = weights.get(HEAD_PREFIX + "0.weight")
    return replace(
        base,
        vision=_vision(weights, vision, upstream),
        language=_language(upstream),
        sam=_sam(weights, base.sam),
        tokens=tokens,
        detection_hidden_size=head.shape[0] if head else base.detection_hidden_size,
        has_detection=any(name.startswith(HEAD_PREFIX) for name in weights),
        verdict_first=False,
    )


def _language(upstream: Mapping[str, Any]) -> LanguageConfig:
    heads = upstream["num_attention_heads"]
    return LanguageConfig(
        vocab_size=upstream["vocab_size"],
        hidden_size=upstream["hidden_size"],
        intermediate_size=upstream["intermediate_size"],
        num_hidden_layers=upstream["num_hidden_layers"],
        num_attention_heads=heads,
        num_key_value_heads=upstream.get("num_key_value_heads") or heads,
        max_position_embeddings=upstream.get("max_position_embeddings", 4096),
        rms_norm_eps=float(upstream.get("rms_norm_eps", 1e-5)),
        rope_theta=float(upstream.get("rope_theta") or 10000.0),
    )


def _vision(weights: Mapping[str, Stored], known: VisionConfig, upstream: Mapping[str, Any]) -> VisionConfig:
    width, side = known.hidden_size, known.patch_size
    patch = _shape(weights, CLIP_PREFIX + "embeddings.patch_embedding.weight", (width, 3, side, side))
    positions = _shape(
        weights, CLIP_PREFIX + "embeddings.position_embedding.weight", (1 + known.image_tokens, width)
    )
    if patch[0] != width:
        raise CheckpointError(
            f"the vision tower is {patch[0]} wide, not {width} as its configuration says: "
            "give the folder of its CLIP with --clip"
        )
    hidden = _shape(
        weights, CLIP_PREFIX + "encoder.layers.0.mlp.fc1.weight", (known.intermediate_size, width)
    )
    return replace(
        known,
        intermediate_size=hidden[0],
        num_hidden_layers=_count(weights, CLIP_PREFIX + "encoder.layers.", known.num_hidden_layers),
        image_size=round((positions[0] - 1) ** 0.5) * patch[-1],
        patch_size=patch[-1],
        select_layer=upstream.get("mm_vision_select_layer", known.select_layer),
    )


def _sam(weights: Mapping[str, Stored], base: SamConfig) -> SamConfig:
    """SAM's sizes. Relative positions are stored per head, so their width tells the number of heads."""
    image, prompt, decoder = (SAM_PREFIX + part for part in SAM_PARTS)
    out, chans = base.out_dim, base.mask_in_chans
    side = base.grid_size
    _, grid, _, width = _shape(weights, image + "pos_embed", (1, side, side, base.embed_dim))
    patch = _shape(weights, image + "patch_embed.proj.weight", (width, 3, base.patch_size, base.patch_size))
    depth = _count(weights, image + "blocks.", base.depth)
    usual = (2 * grid - 1, base.embed_dim // base.num_heads)
    relative = [_shape(weights, f"{image}blocks.{i}.attn.rel_pos_h", usual) for i in range(depth)]
    windowed = [length for length, _ in relative if length != 2 * grid - 1]
    hidden = _shape(weights, image + "blocks.0.mlp.lin1.weight", (round(base.mlp_ratio * width), width))
    decoded = decoder + "transformer.layers."
    return replace(
        base,
        image_size=grid * patch[-1],
        resize_to=min(base.resize_to, grid * patch[-1]),
        patch_size=patch[-1],
        embed_dim=width,
        depth=depth,
        num_heads=width // relative[0][1],
        mlp_ratio=hidden[0] / width,
        window_size=(windowed[0] + 1) // 2 if windowed else 0,
        global_attn_indexes=tuple(i for i, (length, _) in enumerate(relative) if length == 2 * grid - 1),
        out_dim=_shape(weights, image + "neck.0.weight", (out, width, 1, 1))[0],
        decoder_depth=_count(weights, decoded, base.decoder_depth),
        decoder_mlp_dim=_shape(weights, decoded + "0.mlp.lin1.weight", (base.decoder_mlp_dim, out))[0],
        mask_in_chans=_shape(weights, prompt + "mask_downscaling.3.weight", (chans, chans // 4, 2, 2))[0],
    )


def _clip_config(clip: Path | None, upstream: Mapping[str, Any]) -> VisionConfig:
    """From the CLIP folder's config.json, else by the tower's name, else the released one."""
    values = _read_json(clip / CONFIG) if clip else None
    if values is None:
        named = upstream.get("mm_vision_tower") or upstream.get("vision_tower")
        return KNOWN_TOWERS.get(named if isinstance(named, str) else "", VisionConfig())
    values = values.get("vision_config", values)
    names = ("hidden_size", "num_attention_heads", "hidden_act", "layer_norm_eps")
    try:
        # A field that is left out has transformers' own default for CLIP, which is the small tower.
        told = {"hidden_size": 768, "num_attention_heads": 12} | {n: values[n] for n in names if n in values}
        return VisionConfig(**told)
    except TypeError as error:
        raise CheckpointError(
            f"{clip}/{CONFIG} is not a CLIP configuration: give CLIP's own folder"
        ) from error


def _alpha(settings: Path, base: LegionConfig) -> float:
    """The adapters' alpha: an adapter_config.json's, else 16 as in the released training code."""
    values = _read_json(settings / "adapter_config.json") or {}
    alpha = values.get("lora_alpha", base.lora.alpha)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise CheckpointError(f"{settings}/adapter_config.json: lora_alpha must be a number, not {alpha!r}")
    return float(alpha)


def _read_tokenizer(folder: Path, upstream: Mapping[str, Any]) -> tuple[Tokenizer, TokenIds]:
    """tokenizer.model, and the ids of the added tokens: as added_tokens.json says, else upstream's order."""
    path = folder / TOKENIZER
    added = _read_json(folder / "added_tokens.json")
    if added is None:
        tokens = TokenIds.after(upstream["vocab_size"] - len(ADDED_TOKENS))
    else:
        if absent := [text for text in ADDED_TOKENS if not isinstance(added.get(text), int)]:
            raise CheckpointError(
                f"{folder}/added_tokens.json lacks {', '.join(absent)}: not a GLaMM tokenizer"
            )
        tokens = TokenIds(**{name: added[text] for text, name in ADDED_TOKENS.items()})
    named = {"pad": "pad_token_id", "bos": "bos_token_id", "eos": "eos_token_id"}
    numbers = {ours: upstream[theirs] for ours, theirs in named.items() if upstream.get(theirs) is not None}
    tokens = replace(tokens, **numbers)
    return Tokenizer.load(path, tokens), tokens


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}): get it again") from error
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} must hold one JSON object: get it again")
    return values


def _shape(weights: Mapping[str, Stored], name: str, usual: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a weight; the usual one where it is absent or senseless (the check of names tells)."""
    stored = weights.get(name)
    if stored is None or len(stored.shape) != len(usual) or 0 in stored.shape:
        return usual
    return stored.shape


def _count(names: Iterable[str], prefix: str, usual: int) -> int:
    """Layers below `prefix`, from the highest number."""
    found = (re.match(r"\d+", name[len(prefix) :]) for name in names if name.startswith(prefix))
    return max((int(match[0]) + 1 for match in found if match), default=usual)


# ---- writing


def _config_text(config: LegionConfig) -> bytes:
    return f"{config.to_json()}\n".encode()


def _write(target: Path, opened: Opened) -> None:
    created = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        (target / TOKENIZER).write_bytes(opened.tokenizer.model)
        (target / CONFIG).write_bytes(_config_text(opened.config))
        write_safetensors(target / WEIGHTS, opened.weights)
    except BaseException as error:
        for name in (TOKENIZER, CONFIG, WEIGHTS, f"{WEIGHTS}.tmp"):
            (target / name).unlink(missing_ok=True)
        if created and target.exists():
            target.rmdir()
        if isinstance(error, OSError):
            raise CheckpointError(f"cannot write {target}: {error.strerror or error}") from error
        raise

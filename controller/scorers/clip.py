"""Scorers that come as a folder of transformers' CLIPModel: CLIP itself, CLIPScore, PickScore.

They differ in what they make of the cosine between picture and prompt:

    clip        the cosine; also for preference models in this shape, such as the bundled one
    clipscore   2.5 * max(cosine, 0), "A photo depicts " before the prompt (arXiv 2104.08718, section 3)
    pickscore   the cosine times exp(logit_scale), about 100 (arXiv 2305.01569, section 3)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from transformers import CLIPModel, CLIPTokenizer

from contracts.errors import CheckpointError
from controller.checkpoints import weights_digest
from controller.scorers.clip_text import clean
from controller.scorers.cosine import CosineScorer, Formula, Tokenize
from controller.scorers.preprocessing import Preprocessing
from controller.scorers.tensors import Dtype, quiet, torch_device, torch_dtype

Kind: TypeAlias = Literal["clip", "clipscore", "pickscore"]


def load_clip(
    path: Path | str,
    name: str,
    *,
    kind: Kind = "clip",
    device: str = "cpu",
    dtype: Dtype = "float32",
    batch_size: int = 32,
) -> CosineScorer:
    """A CLIP folder: config, weights, tokenizer, preprocessing. `batch_size` pictures at once on a GPU.

    Raises CheckpointError if it is not whole, InvalidInput for an option that cannot be used.
    """
    folder = Path(path)
    wanted, place = torch_dtype(dtype), torch_device(device)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"there is no CLIP model in {folder}: config.json is missing (see docs/scorers.md)"
        )
    weights, preprocessing = weights_digest(folder), Preprocessing.load(folder)
    try:
        with quiet():
            model, report = _load(folder, wanted)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            model = model.to(place).train(False).requires_grad_(False)
    except Exception as error:  # every library in there raises kinds of its own
        cause = " ".join(str(error).split())[:300]
        raise CheckpointError(f"the CLIP model in {folder} cannot be loaded: {cause}") from error
    _check_complete(folder, report, model, tokenizer, preprocessing)
    if kind == "clipscore":
        preprocessing = replace(preprocessing, center="even")  # its own code cuts with torchvision
    return CosineScorer(
        kind,
        name,
        model,
        _tokenize(kind, tokenizer),
        preprocessing,
        _formula(kind, model),
        release="",
        weights=weights,
        batch_size=batch_size,
    )


def _formula(kind: Kind, model: Any) -> Formula:
    match kind:
        case "clip":
            return Formula()
        case "clipscore":
            return Formula(scale=2.5, floor=0.0, prefix="A photo depicts ")
        case "pickscore":
            return Formula(scale=float(model.logit_scale.float().exp()))


def _tokenize(kind: Kind, tokenizer: CLIPTokenizer) -> Tokenize:
    """CLIPScore's own code mends and unescapes a text first, as OpenAI's tokenizer does; the others read it
    through transformers' tokenizer, which does not."""
    encode: Any = tokenizer
    if kind == "clipscore":
        return lambda text: encode(clean(text), verbose=False)["input_ids"]
    return lambda text: encode(text, verbose=False)["input_ids"]


def _load(folder: Path, dtype: torch.dtype) -> tuple[Any, Mapping[str, Any]]:
    """The model, and transformers' report of what was missing from its file."""
    load: Any = CLIPModel.from_pretrained
    model, report = load(folder, dtype=dtype, local_files_only=True, output_loading_info=True)
    return model, report


def _check_complete(
    folder: Path,
    report: Mapping[str, Any],
    model: Any,
    tokenizer: CLIPTokenizer,
    preprocessing: Preprocessing,
) -> None:
    """A part left at random would score in silence, and so would a text read at the wrong token."""
    if missing := sorted(report["missing_keys"]):
        raise CheckpointError(
            f"the CLIP model in {folder} lacks {len(missing)} tensors: {', '.join(missing[:12])}"
        )
    vision, text = model.config.vision_config, model.config.text_config
    if vision.image_size != preprocessing.size:
        raise CheckpointError(
            f"the CLIP model in {folder} sees {vision.image_size} px, its preprocessing makes "
            f"{preprocessing.size}"
        )
    if len(tokenizer) > text.vocab_size:
        raise CheckpointError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens, the model knows {text.vocab_size}"
        )
    # transformers pools at the highest id if the config says 2 (old checkpoints), else at the first such id.
    end = len(tokenizer) - 1 if text.eos_token_id == 2 else text.eos_token_id
    if tokenizer.eos_token_id != end:
        raise CheckpointError(
            f"the model in {folder} reads a text at token {end}, its tokenizer ends one with "
            f"{tokenizer.eos_token_id}"
        )

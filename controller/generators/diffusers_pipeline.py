"""Any text-to-image checkpoint that diffusers can load, behind the Generator protocol.

A sample is the same alone and in a batch: its starting noise comes from its own CPU generator, and every
sampling step that draws noise draws it from there too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoPipelineForText2Image
from diffusers.utils import logging as diffusers_logging

from contracts.errors import CheckpointError, ModelError
from contracts.records import GenerationRequest, Image
from contracts.seeds import MAX_SEED

log = logging.getLogger(__name__)


class DiffusersGenerator:
    """A Generator over a diffusers pipeline."""

    def __init__(
        self,
        name: str,
        pipeline: Any,
        options: Mapping[str, object],
        batch_size: int,
        digest: str,
    ) -> None:
        self.name = name
        self._pipeline, self._options, self._batch_size, self._digest = (
            pipeline,
            dict(options),
            batch_size,
            digest,
        )
        self._known = _known_words(pipeline)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        batch_size: int = 8,
    ) -> DiffusersGenerator:
        """A pipeline folder. Steps and guidance that are None come from its `legion_defaults.json`, if it has
        one, or are the pipeline's own. Raises CheckpointError if the folder is no pipeline.
        """
        folder = Path(path)
        if not (folder / "model_index.json").is_file():
            raise CheckpointError(f"there is no diffusers pipeline in {folder}: model_index.json is missing")
        diffusers_logging.disable_progress_bar()
        try:
            pipeline = AutoPipelineForText2Image.from_pretrained(
                folder, torch_dtype=getattr(torch, dtype), local_files_only=True
            )
        except (OSError, ValueError, RuntimeError, AttributeError) as error:
            raise CheckpointError(f"the pipeline in {folder} cannot be loaded: {error}") from error
        pipeline.to(device)
        pipeline.set_progress_bar_config(disable=True)
        options = {
            **_folder_defaults(folder),
            **({"num_inference_steps": steps} if steps is not None else {}),
            **({"guidance_scale": guidance_scale} if guidance_scale is not None else {}),
        }
        return cls(folder.name, pipeline, options, batch_size, weights_digest(folder))

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """One uint8 (H, W, 3) picture per request, in order. Raises ModelError."""
        images: list[Image] = []
        for start in range(0, len(requests), self._batch_size):
            images.extend(self._batch(requests[start : start + self._batch_size]))
        return images

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that the checkpoint's `known_words.txt` lacks; empty if it has no such list."""
        if self._known is None:
            return []
        words = re.findall(r"[^\W_]+(?:['-][^\W_]+)*", prompt.lower())
        return list(dict.fromkeys(w for w in words if w not in self._known))

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder reads the whole prompt."""
        return self._tokens(prompt) <= self._limit()

    def describe(self) -> Mapping[str, object]:
        return {
            "name": self.name,
            "digest": self._digest,
            "pipeline": type(self._pipeline).__name__,
            "dtype": str(self._pipeline.dtype).removeprefix("torch."),
            **self._options,
        }

    @torch.inference_mode()
    def _batch(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        for request in requests:
            if not self.fits(request.prompt):
                log.warning(
                    "the prompt has %d tokens but the model reads only the first %d: %r",
                    self._tokens(request.prompt),
                    self._limit(),
                    request.prompt,
                )
        options = dict(self._options)
        if any(r.negative_prompt for r in requests):
            options["negative_prompt"] = [r.negative_prompt for r in requests]
        generators = [torch.Generator("cpu").manual_seed(r.seed & MAX_SEED) for r in requests]
        try:
            result = self._pipeline(
                prompt=[r.prompt for r in requests], generator=generators, output_type="np", **options
            )
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the generator '{self.name}' failed: {error}") from error
        return [np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8) for picture in result.images]

    def _tokens(self, prompt: str) -> int:
        return len(self._pipeline.tokenizer(prompt, truncation=False, verbose=False).input_ids)

    def _limit(self) -> int:
        return int(self._pipeline.tokenizer.model_max_length)


def weights_digest(folder: Path) -> str:
    """Short sha256 over the names and contents of all safetensors files below a folder."""
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        content.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:12]


def _folder_defaults(folder: Path) -> dict[str, object]:
    path = folder / "legion_defaults.json"
    if not path.is_file():
        return {}
    defaults = json.loads(path.read_text())
    return {k: defaults[k] for k in ("num_inference_steps", "guidance_scale") if k in defaults}


def _known_words(pipeline: Any) -> frozenset[str] | None:
    path = Path(pipeline.tokenizer.name_or_path) / "known_words.txt"
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else None

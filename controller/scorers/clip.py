"""Scores from a CLIP: how close picture and prompt lie in its feature space.

One class serves a plain CLIP score and preference models in CLIP's shape, such as HPSv2 (arXiv 2306.09341):
they differ in weights and preprocessing, both of which the checkpoint folder brings. The value is the cosine
of the two features; it is not multiplied by the logit scale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from contracts.errors import CheckpointError
from contracts.records import Image, Score


@dataclass(frozen=True)
class Preprocessing:
    """Longest side to `size`, bicubic; padded with black to a square; then normalized (HPSv2's way)."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def load(cls, folder: Path) -> Preprocessing:
        """From `preprocessor_config.json`. Raises CheckpointError if it lacks what is needed."""
        path = folder / "preprocessor_config.json"
        try:
            raw = json.loads(path.read_text())
            size = raw["size"]
            edge = size if isinstance(size, int) else size.get("longest_edge", size.get("shortest_edge"))
            return cls(int(edge), tuple(raw["image_mean"]), tuple(raw["image_std"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} does not say how pictures are prepared: {error}") from error

    def __call__(self, images: Sequence[Image]) -> torch.Tensor:
        """uint8 (H, W, 3) pictures of any size -> (N, 3, size, size)."""
        return torch.stack([self._one(image) for image in images])

    def _one(self, image: Image) -> torch.Tensor:
        height, width = image.shape[:2]
        scale = self.size / max(height, width)
        new = (max(1, round(height * scale)), max(1, round(width * scale)))
        x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
        if new != (height, width):
            x = F.interpolate(x, new, mode="bicubic", align_corners=False, antialias=True)
        left, top = (self.size - new[1]) // 2, (self.size - new[0]) // 2
        x = F.pad(x[0], (left, self.size - new[1] - left, top, self.size - new[0] - top))
        return (x - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


class ClipScorer:
    """A Scorer over a folder that `CLIPModel.from_pretrained` reads."""

    def __init__(
        self,
        name: str,
        model: CLIPModel,
        tokenizer: CLIPTokenizer,
        preprocessing: Preprocessing,
        version: str,
    ) -> None:
        self.name = name
        self._model, self._tokenizer, self._prepare = model.eval(), tokenizer, preprocessing
        self._version = version

    @classmethod
    def load(cls, path: Path | str, name: str, device: str = "cpu") -> ClipScorer:
        """Raises CheckpointError if the folder holds no CLIP."""
        folder = Path(path)
        weights = folder / "model.safetensors"
        if not weights.is_file():
            raise CheckpointError(f"there is no CLIP model in {folder}: model.safetensors is missing")
        preprocessing = Preprocessing.load(folder)
        try:
            model = CLIPModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True).to(device)
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"the CLIP model in {folder} cannot be loaded: {error}") from error
        version = hashlib.sha256(weights.read_bytes()).hexdigest()[:12]
        return cls(name, model, tokenizer, preprocessing, version)

    @torch.inference_mode()
    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        """Cosine of each picture with its own prompt, -1..1."""
        if len(images) != len(prompts):
            raise ValueError(f"{len(images)} images and {len(prompts)} prompts")
        if not images:
            return []
        device = self._model.device
        # One text at a time: padding to the longest of a batch would change the result by rounding.
        texts = torch.cat([self._text(prompt) for prompt in prompts])
        pooled = self._model.vision_model(pixel_values=self._prepare(images).to(device)).pooler_output
        pictures = F.normalize(self._model.visual_projection(pooled), dim=-1)
        return [Score(self.name, self._version, float(v)) for v in (pictures * texts).sum(dim=-1)]

    def describe(self) -> Mapping[str, object]:
        return {"name": self.name, "version": self._version, "size": self._prepare.size, "antialias": True}

    def _text(self, prompt: str) -> torch.Tensor:
        tokens = self._tokenizer([prompt], truncation=True, return_tensors="pt").to(self._model.device)
        pooled = self._model.text_model(input_ids=tokens["input_ids"]).pooler_output
        return F.normalize(self._model.text_projection(pooled), dim=-1)

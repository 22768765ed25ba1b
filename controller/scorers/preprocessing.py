"""How pictures become the input of a CLIP-like tower."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image as Pillow
from torch.nn import functional as F

from contracts.errors import CheckpointError
from contracts.records import Image

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class Preprocessing:
    """Resize, pad or cut to a square, normalize. A change of any field changes scores.

    fit "longest" is HPSv2's way (arXiv 2306.09341): the longest side becomes `size`, the rest is padded with
    black; resized are float values, which are not clamped afterwards. Its results hang on `antialias`:
    torchvision resized tensors without it before 0.17 and does with it since, and the two differ by up to 0.9
    after normalization. fit "shortest" is the way of OpenAI's CLIP: the shortest side becomes `size`, the
    center square is cut; Pillow resizes the 8-bit picture, always with antialias. Both are bicubic.
    """

    size: int
    fit: Literal["longest", "shortest"]
    antialias: bool = True
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    center: Literal["floor", "even"] = "floor"
    """Where the cut begins if half of the excess is no whole number: below (transformers) or at the even
    neighbor (torchvision)."""

    @classmethod
    def load(cls, folder: Path) -> Preprocessing:
        """From `preprocessor_config.json`; a missing "antialias" means true. Raises CheckpointError."""
        path = folder / "preprocessor_config.json"
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            size = raw["size"] if isinstance(raw["size"], dict) else {"shortest_edge": raw["size"]}
            fit: Literal["longest", "shortest"] = "longest" if "longest_edge" in size else "shortest"
            edge = int(size[f"{fit}_edge"])
            mean, std = _triple(raw["image_mean"]), _triple(raw["image_std"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path} does not say how pictures are prepared: {error}") from error
        if raw.get("resample", 3) != 3:
            raise CheckpointError(f"{path} asks for resampling {raw['resample']}: only 3 (bicubic) is known")
        if fit == "shortest" and _edge(raw.get("crop_size", edge)) != edge:
            raise CheckpointError(
                f"{path} cuts {raw['crop_size']} of {edge} px: only the whole square is known"
            )
        antialias = bool(raw.get("antialias", True))
        if fit == "shortest" and not antialias:
            raise CheckpointError(
                f"{path} asks for a cut without antialias: only 'longest_edge' can go without"
            )
        return cls(edge, fit, antialias, mean, std)

    def options(self) -> dict[str, object]:
        """What a score's version says of it; mean and deviation are left out, they go with the weights."""
        common = {"size": self.size, "fit": self.fit}
        extra = {"antialias": self.antialias} if self.fit == "longest" else {"center": self.center}
        return {**common, **extra}

    def __call__(self, images: Sequence[Image]) -> torch.Tensor:
        """uint8 (H, W, 3) pictures of any size -> float32 (N, 3, size, size)."""
        return torch.stack([self._one(image) for image in images])

    def _one(self, image: Image) -> torch.Tensor:
        x = self._padded(image) if self.fit == "longest" else self._cut(image)
        return (x - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]

    def _padded(self, image: Image) -> torch.Tensor:
        height, width = image.shape[:2]
        longest = max(height, width)
        new = tuple(max(1, round(side * self.size / longest)) for side in (height, width))
        x = _as_tensor(image)
        if new != (height, width):
            x = F.interpolate(x[None], new, mode="bicubic", align_corners=False, antialias=self.antialias)[0]
        top, left = (self.size - new[0]) // 2, (self.size - new[1]) // 2
        return F.pad(x, (left, self.size - new[1] - left, top, self.size - new[0] - top))

    def _cut(self, image: Image) -> torch.Tensor:
        height, width = image.shape[:2]
        shortest = min(height, width)
        # int(size * long / short) as in torchvision and transformers, not round: it decides what is cut.
        new_height, new_width = (int(self.size * side / shortest) for side in (height, width))
        if (new_height, new_width) != (height, width):
            picture = Pillow.fromarray(image).resize((new_width, new_height), Pillow.Resampling.BICUBIC)
            image = np.asarray(picture)
        top, left = (self._half(side - self.size) for side in (new_height, new_width))
        return _as_tensor(image[top : top + self.size, left : left + self.size])

    def _half(self, excess: int) -> int:
        return excess // 2 if self.center == "floor" else round(excess / 2)


def _edge(size: object) -> object:
    """The edge of a square, however it is written; None if it is none."""
    if not isinstance(size, dict):
        return size
    return size.get("height") if size.get("height") == size.get("width") else None


def _as_tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue

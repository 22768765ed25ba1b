"""Scores from a CLIP: how close picture and prompt lie in its feature space.

One class serves a plain CLIP score and preference models in CLIP's shape, such as HPSv2 (arXiv 2306.09341):
they differ in weights and preprocessing, both of which the checkpoint folder brings. The value is the cosine
of the two features; it is not multiplied by the logit scale.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from contracts.errors import CheckpointError, InvalidInput, ModelError
from contracts.records import Image, Score
from controller.checkpoints import weights_digest

DIGITS = 6
"""Decimals that are kept; those behind are rounding noise of float32."""
REMEMBERED = 4096
"""Prompts whose features are kept: the loop scores every round against the same prompt."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the tower's input, as `preprocessor_config.json` says.

    fit "longest" scales the longest side to `size` and pads with black to a square (HPSv2's way); fit
    "shortest" scales the shortest side to `size` and cuts the center square (OpenAI's way). Resizing is
    bicubic, on values 0..1 that are not clamped afterwards, as HPSv2 does it under torchvision.
    """

    size: int
    fit: Literal["longest", "shortest"]
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

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
        return cls(edge, fit, bool(raw.get("antialias", True)), mean, std)

    def __call__(self, images: Sequence[Image]) -> torch.Tensor:
        """uint8 (H, W, 3) pictures of any size -> (N, 3, size, size)."""
        return torch.stack([self._one(image) for image in images])

    def _one(self, image: Image) -> torch.Tensor:
        height, width = image.shape[:2]
        side = max(height, width) if self.fit == "longest" else min(height, width)
        new = tuple(max(1, round(length * self.size / side)) for length in (height, width))
        x = torch.from_numpy(image.copy()).permute(2, 0, 1).float() / 255
        if new != (height, width):
            x = F.interpolate(x[None], new, mode="bicubic", align_corners=False, antialias=self.antialias)[0]
        # Negative padding cuts: one line serves both ways.
        top, left = (self.size - new[0]) // 2, (self.size - new[1]) // 2
        x = F.pad(x, (left, self.size - new[1] - left, top, self.size - new[0] - top))
        return (x - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]


class ClipScorer:
    """A Scorer over a folder that `CLIPModel.from_pretrained` reads. Not for several threads at once."""

    def __init__(
        self,
        name: str,
        model: Any,
        tokenizer: CLIPTokenizer,
        preprocessing: Preprocessing,
        version: str,
        batch_size: int = 32,
    ) -> None:
        """Use `load`. Scores are signed with `name` and `version`."""
        self.name = name
        self._model = model.train(False)
        self._tokenizer, self._prepare, self._version = tokenizer, preprocessing, version
        # Kernels are chosen by the batch's size and differ in the seventh digit. On a CPU, where a batch
        # saves little, pictures go one at a time, so that a score is the same alone and in a batch.
        self._batch_size = 1 if torch.device(model.device).type == "cpu" else batch_size
        self._texts: OrderedDict[str, torch.Tensor] = OrderedDict()

    @classmethod
    def load(cls, path: Path | str, name: str, device: str = "cpu", batch_size: int = 32) -> ClipScorer:
        """A CLIP folder: weights, tokenizer, preprocessing; `batch_size` pictures at once on a GPU.

        Raises CheckpointError if it is not whole, InvalidInput for a batch size below 1.
        """
        folder = Path(path)
        if batch_size < 1:
            raise InvalidInput(f"batch size {batch_size} cannot be used: choose 1 or more")
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"there is no CLIP model in {folder}: config.json is missing")
        version, preprocessing = weights_digest(folder), Preprocessing.load(folder)
        try:
            with _quiet():
                model, report = _load_clip(folder)
                tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
                model = model.to(device)
        except Exception as error:  # every library in there raises kinds of its own
            cause = " ".join(str(error).split())[:300]
            raise CheckpointError(f"the CLIP model in {folder} cannot be loaded: {cause}") from error
        _check_complete(folder, report, model, tokenizer, preprocessing)
        return cls(name, model, tokenizer, preprocessing, version, batch_size)

    @torch.inference_mode()
    def score(self, images: Sequence[Image], prompts: Sequence[str]) -> list[Score]:
        """Cosine of each picture with its own prompt, -1..1, rounded to 6 decimals. Raises ModelError."""
        if len(images) != len(prompts):
            raise InvalidInput(f"{len(images)} images and {len(prompts)} prompts: give one prompt per image")
        values: list[float] = []
        for start in range(0, len(images), self._batch_size):
            stop = start + self._batch_size
            values += self._cosines(images[start:stop], prompts[start:stop])
        return [Score(self.name, self._version, round(value, DIGITS)) for value in values]

    def describe(self) -> Mapping[str, object]:
        """Name, short digest of the weights, preprocessing."""
        prepared = {key: value for key, value in asdict(self._prepare).items() if key not in ("mean", "std")}
        return {"name": self.name, "version": self._version, **prepared}

    def _cosines(self, images: Sequence[Image], prompts: Sequence[str]) -> list[float]:
        texts = torch.stack([self._text(prompt) for prompt in prompts])
        pixels = self._prepare(images).to(self._model.device)
        pooled = self._model.vision_model(pixel_values=pixels).pooler_output
        pictures = F.normalize(self._model.visual_projection(pooled), dim=-1)
        values = (pictures * texts).sum(dim=-1)
        if not bool(values.isfinite().all()):
            raise ModelError(
                f"the scorer {self.name} gave a value that is no number: its weights are damaged"
            )
        return [float(value) for value in values]

    def _text(self, prompt: str) -> torch.Tensor:
        """(D,) unit feature of a prompt. One at a time: a batch's padding would change the last decimals."""
        if prompt not in self._texts:
            limit = self._model.config.text_config.max_position_embeddings
            tokens = self._tokenizer([prompt], truncation=True, max_length=limit, return_tensors="pt")
            ids = tokens["input_ids"].to(self._model.device)
            pooled = self._model.text_model(input_ids=ids).pooler_output
            self._texts[prompt] = F.normalize(self._model.text_projection(pooled), dim=-1)[0]
            if len(self._texts) > REMEMBERED:
                self._texts.popitem(last=False)
        return self._texts[prompt]


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _load_clip(folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """The model, and transformers' report of what was missing from its file."""
    load: Any = CLIPModel.from_pretrained
    model, report = load(folder, dtype=torch.float32, local_files_only=True, output_loading_info=True)
    return model, report


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no tables of transformers on stderr; what a person must know is raised as an error."""
    library: Any = transformers_logging
    bars, verbosity = library.is_progress_bar_enabled(), library.get_verbosity()
    try:
        library.disable_progress_bar()
        library.set_verbosity_error()
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


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
            f"the CLIP model in {folder} lacks {len(missing)} tensors, such as {missing[0]}"
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

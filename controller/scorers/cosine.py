"""Scorers with two towers: the cosine of a picture's and a prompt's features, and what is made of it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.nn import functional as F

from contracts.records import Image
from controller.scorers.preprocessing import Preprocessing
from controller.scorers.scoring import REMEMBERED, BatchedScorer, within

Tokenize: TypeAlias = Callable[[str], Sequence[int]]
"""A prompt -> its tokens, the opening and the closing one included, not cut."""


@dataclass(frozen=True)
class Formula:
    """How a published score follows from the cosine."""

    scale: float = 1.0
    floor: float | None = None
    """Smallest value of the cosine that counts; None if every value does."""
    prefix: str = ""
    """Put before every prompt."""

    def __call__(self, cosines: torch.Tensor) -> torch.Tensor:
        kept = cosines if self.floor is None else cosines.clamp(min=self.floor)
        return self.scale * kept


class CosineScorer(BatchedScorer):
    """A Scorer over transformers' CLIPModel. Use the loaders in clip.py and hpsv2.py."""

    def __init__(
        self,
        kind: str,
        name: str,
        model: Any,
        tokenize: Tokenize,
        prepare: Preprocessing,
        formula: Formula,
        *,
        release: str,
        weights: str,
        batch_size: int = 32,
    ) -> None:
        """`weights` is the digest of the file. Other arguments as of BatchedScorer."""
        self.kind = kind
        options = {**prepare.options(), "dtype": str(model.dtype).removeprefix("torch.")}
        super().__init__(name, release, weights, options, model.device, batch_size)
        self._model, self._tokenize, self._prepare, self._formula = model, tokenize, prepare, formula
        self._limit: int = model.config.text_config.max_position_embeddings
        self._texts: OrderedDict[str, torch.Tensor] = OrderedDict()

    def _values(self, images: Sequence[Image], prompts: Sequence[str]) -> torch.Tensor:
        texts = torch.stack([self._text(prompt) for prompt in prompts])
        pixels = self._prepare(images).to(self._model.device, self._model.dtype)
        pooled = self._model.vision_model(pixel_values=pixels).pooler_output
        pictures = _unit(self._model.visual_projection(pooled))
        return self._formula((pictures * texts).sum(dim=-1))

    def _text(self, prompt: str) -> torch.Tensor:
        """float32 (D,) unit feature of a prompt. One at a time: a batch's padding would change the last
        decimals."""
        if prompt not in self._texts:
            tokens = within(self._tokenize(self._formula.prefix + prompt), self._limit, self.name, prompt)
            ids = torch.tensor([tokens], device=self._model.device)
            pooled = self._model.text_model(input_ids=ids).pooler_output
            self._texts[prompt] = _unit(self._model.text_projection(pooled))[0]
            if len(self._texts) > REMEMBERED:
                self._texts.popitem(last=False)
        return self._texts[prompt]


def _unit(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features.float(), dim=-1)

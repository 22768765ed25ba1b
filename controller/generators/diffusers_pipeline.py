"""Any text-to-image checkpoint in a folder that diffusers can load, behind the Generator protocol.

A sample does not depend on its neighbors: its starting noise comes from its own CPU generator, and every
sampling step that draws noise draws it from there too. What is left is arithmetic: matrix and convolution
kernels are chosen by the batch's size and differ in the seventh digit, enough to turn one pixel value in some
thousands by one level. So an exact generator paints one picture per model call. On a CPU that costs little (a
batch saves about a third of the time, measured on the bundled model); on a GPU it would cost most of the
speed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from contracts.records import GenerationRequest, Image
from controller.checkpoints import weights_digest
from controller.generators import pipelines


class DiffusersGenerator:
    """A Generator over a diffusers pipeline."""

    def __init__(
        self,
        name: str,
        pipeline: Any,
        options: Mapping[str, int | float],
        batch_size: int,
        digest: str,
        known_words: frozenset[str] | None = None,
        exact: bool = True,
    ) -> None:
        """Use `load`. `options` are passed to the pipeline; `known_words` is None for an open vocabulary."""
        self.name = name
        self._pipeline, self._options = pipeline, dict(options)
        self._exact, self._batch_size = exact, 1 if exact else batch_size
        self._digest, self._known = digest, known_words

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
        exact: bool | None = None,
    ) -> DiffusersGenerator:
        """A pipeline folder, on `device`, in `dtype` (float32, float16 or bfloat16).

        `exact` makes a picture bit for bit the same alone and in a batch, by painting one per model call;
        None means on a CPU only. Otherwise up to `batch_size` are painted at once.

        Steps (1 or more) and guidance (0 or more) that are None come from the folder's
        `legion_defaults.json`; if that does not say, they are the pipeline's own. Raises CheckpointError if
        the folder is no usable pipeline, InvalidInput for an option out of range.
        """
        folder = Path(path)
        pipelines.check_options(steps, guidance_scale, dtype, batch_size)
        pipeline = pipelines.load_pipeline(folder, "AutoPipelineForText2Image", device, dtype)
        options = pipelines.sampling_options(pipeline, folder, steps, guidance_scale)
        known = _known_words(folder / "tokenizer" / "known_words.txt")
        name = folder.resolve().name
        exact = torch.device(device).type == "cpu" if exact is None else exact
        return cls(name, pipeline, options, batch_size, weights_digest(folder), known, exact)

    @property
    def pipeline(self) -> Any:
        """The pipeline itself, for adapters that paint with the same weights."""
        return self._pipeline

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """One uint8 (H, W, 3) picture per request, in order. Raises ModelError."""
        return pipelines.in_batches(requests, self._batch_size, _kind, self._paint)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt, as written, that the checkpoint's `known_words.txt` lacks; each once, in
        order.

        Empty if the checkpoint brings no such list: its vocabulary is open.
        """
        if self._known is None:
            return []
        found = {word.casefold(): word for word in reversed(split_words(prompt))}
        return [word for key, word in reversed(found.items()) if key not in self._known]

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder reads the whole prompt."""
        return pipelines.fits(self._pipeline, prompt)

    def describe(self) -> Mapping[str, object]:
        """Name, digest of the weights, pipeline and scheduler class, dtype, exactness, steps, guidance."""
        return pipelines.describe(self.name, self._pipeline, self._digest, self._exact, self._options)

    @torch.inference_mode()
    def _paint(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        for request in requests:
            pipelines.warn_if_too_long(self.name, self._pipeline, request.prompt)
        negative = [r.negative_prompt for r in requests]
        with pipelines.painting(self.name, len(requests)):
            result = self._pipeline(
                prompt=[r.prompt for r in requests],
                generator=[torch.Generator("cpu").manual_seed(r.seed) for r in requests],
                output_type="np",
                **({"negative_prompt": negative} if any(negative) else {}),
                **self._options,
            )
        return [pipelines.to_uint8(self.name, picture) for picture in result.images]


def _kind(request: GenerationRequest) -> bool:
    """Has it a negative prompt? Some pipelines treat an absent one differently from an empty one."""
    return bool(request.negative_prompt)


def split_words(prompt: str) -> list[str]:
    """The words of a prompt as written: split at space, dashes, slashes and commas, without outer
    punctuation."""
    pieces = (_without_outer_punctuation(piece) for piece in re.split(r"[\s,;:/|\u2010-\u2015-]+", prompt))
    return [piece for piece in pieces if piece]


def _without_outer_punctuation(word: str) -> str:
    kept = [i for i, character in enumerate(word) if unicodedata.category(character)[0] != "P"]
    return word[kept[0] : kept[-1] + 1] if kept else ""


def _known_words(path: Path) -> frozenset[str] | None:
    return frozenset(path.read_text(encoding="utf-8").casefold().split()) if path.is_file() else None

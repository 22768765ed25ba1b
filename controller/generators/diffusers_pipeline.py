"""Any text-to-image checkpoint that diffusers can load, behind the Generator protocol.

A sample does not depend on its neighbors: its starting noise comes from its own CPU generator, and every
sampling step that draws noise draws it from there too. What is left is arithmetic: matrix and convolution
kernels are chosen by the batch's size and differ in the seventh digit, enough to turn one pixel value in some
thousands by one level. So an exact generator paints one picture per model call. On a CPU that costs little (a
batch saves about a third of the time, measured on the bundled model); on a GPU it would cost most of the
speed.

A checkpoint made for inpainting alone paints a whole picture as what it is: one large mask.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow

from contracts.records import GenerationRequest, Image
from controller.checkpoints import weights_digest
from controller.generators import pipelines
from controller.generators.lending import is_exact, make_batching, name_of, open_loan
from controller.generators.loading import Loan, Weights
from controller.generators.pipelines import Sampling
from controller.generators.shelf import Shelf


class DiffusersGenerator:
    """A Generator over a diffusers pipeline."""

    def __init__(
        self,
        name: str,
        loan: Loan,
        sampling: Sampling,
        batch_size: int,
        exact: bool,
        known_words: frozenset[str] | None = None,
    ) -> None:
        """Use `load`. `known_words` is None for an open vocabulary."""
        self.name, self.loan, self.sampling, self.exact = name, loan, sampling, exact
        self._known = known_words
        pipeline = loan()
        self._options = pipelines.sampling_options(name, pipeline, loan.folder, sampling)
        self._readers = pipelines.readers(pipeline, self._options)
        self._digest = weights_digest(loan.folder)
        self.batching = make_batching(name, loan, batch_size, exact)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        max_sequence_length: int | None = None,
        batch_size: int = 8,
        exact: bool | None = None,
        shelf: Shelf | None = None,
        **weights: Any,
    ) -> DiffusersGenerator:
        """A pipeline folder, or a name on the hub; further options are those of `Weights`.

        `exact` makes a picture bit for bit the same alone and in a batch, by painting one per model call;
        None means on a CPU only. Otherwise up to `batch_size` are painted at once. Generators of one `shelf`
        share what they load.

        Sampling options that are None come from the folder's `legion_defaults.json`; if that does not say,
        they are the pipeline's own. Raises CheckpointError if the folder is no usable pipeline, InvalidInput
        for an option out of range.
        """
        sampling = Sampling(steps, guidance_scale, width, height, max_sequence_length)
        loan = open_loan(path, sampling, batch_size, Weights(**weights), shelf)
        known = _known_words(loan.folder / "tokenizer" / "known_words.txt")
        return cls(name_of(path), loan, sampling, batch_size, is_exact(exact, loan), known)

    @property
    def pipeline(self) -> Any:
        """The pipeline itself."""
        return self.loan()

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """One uint8 (H, W, 3) picture per request, in order. Raises ModelError."""
        for prompt in dict.fromkeys(request.prompt for request in requests):
            pipelines.say_what_is_not_read(self.name, self._readers, prompt)
        return self.batching.paint(requests, _kind, self._paint)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt, as written, that the checkpoint's `known_words.txt` lacks; each once, in
        order.

        Empty if the checkpoint brings no such list: its vocabulary is open.
        """
        return words_not_in(self._known, prompt)

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder reads the whole prompt."""
        return pipelines.fits(self._readers, prompt)

    def describe(self) -> Mapping[str, object]:
        """Name, digest of the weights, pipeline and scheduler class, dtype, exactness, steps, guidance."""
        said = pipelines.describe(self.name, self.pipeline, self._digest, self.exact, self._options)
        return {**said, **self.loan.weights.describe()}

    @torch.inference_mode()
    def _paint(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        pipeline = self.pipeline
        with pipelines.painting(self.name):
            result = pipeline(
                prompt=[r.prompt for r in requests],
                generator=[torch.Generator("cpu").manual_seed(r.seed) for r in requests],
                output_type="np",
                **pipelines.negative_prompts(self.name, pipeline, [r.negative_prompt for r in requests]),
                **(self._everywhere(pipeline, len(requests)) if pipelines.fills_masks(pipeline) else {}),
                **self._options,
            )
        return pipelines.pictures(self.name, result)

    def _everywhere(self, pipeline: Any, count: int) -> dict[str, Any]:
        """For a pipeline that fills masks: the whole picture is one, and nothing of it is kept."""
        own = dict(zip(("width", "height"), pipelines.native_size(pipeline), strict=True))
        size = {side: int(self._options.get(side, own[side])) for side in own}
        shape = size["width"], size["height"]
        strength = {"strength": 1.0} if pipelines.takes(pipeline, "strength") else {}
        return {
            "image": [Pillow.new("RGB", shape, "gray")] * count,
            "mask_image": [Pillow.new("L", shape, 255)] * count,
            **strength,
            **{side: value for side, value in size.items() if side not in self._options},
        }


def words_not_in(known: frozenset[str] | None, prompt: str) -> list[str]:
    """Words of the prompt that are not known, as written, each once, in order; none if all are."""
    if known is None:
        return []
    found = {word.casefold(): word for word in reversed(split_words(prompt))}
    return [word for key, word in reversed(found.items()) if key not in known]


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

"""Any text-to-image checkpoint in a folder that diffusers can load, behind the Generator protocol.

A sample does not depend on its neighbors: its starting noise comes from its own CPU generator, and every
sampling step that draws noise draws it from there too. What is left is arithmetic: matrix and convolution
kernels are chosen by the batch's size and differ in the seventh digit, enough to turn one pixel value in some
thousands by one level. So an exact generator paints one picture per model call. On a CPU that costs little (a
batch saves about a third of the time, measured on the bundled model); on a GPU it would cost most of the
speed.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from contracts.errors import CheckpointError, InvalidInput, ModelError
from contracts.records import GenerationRequest, Image
from controller.checkpoints import weights_digest

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULTS_FILE = "legion_defaults.json"
"""May stand in a checkpoint folder: the sampling options it is best used with."""
OPTIONS = ("num_inference_steps", "guidance_scale")


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
        _check_options(steps, guidance_scale, dtype, batch_size)
        if not (folder / "model_index.json").is_file():
            raise CheckpointError(f"there is no diffusers pipeline in {folder}: model_index.json is missing")
        defaults = _folder_defaults(folder)
        try:
            with _quiet():
                # Imported here, as the import itself prints: it remarks on torchvision, which nobody needs.
                from diffusers import AutoPipelineForText2Image

                load_pipeline: Any = AutoPipelineForText2Image.from_pretrained
                pipeline = load_pipeline(folder, dtype=DTYPES[dtype], local_files_only=True).to(device)
        except Exception as error:  # every library in there raises kinds of its own
            raise CheckpointError(f"the pipeline in {folder} cannot be loaded: {_line(error)}") from error
        pipeline.set_progress_bar_config(disable=True)
        given = {"num_inference_steps": steps, "guidance_scale": guidance_scale}
        options = _pipeline_defaults(pipeline) | defaults | {k: v for k, v in given.items() if v is not None}
        known = _known_words(folder / "tokenizer" / "known_words.txt")
        name = folder.resolve().name
        exact = torch.device(device).type == "cpu" if exact is None else exact
        return cls(name, pipeline, options, batch_size, weights_digest(folder), known, exact)

    def generate(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        """One uint8 (H, W, 3) picture per request, in order. Raises ModelError."""
        images: dict[int, Image] = {}
        for batch in self._batches(requests):
            images.update(zip(batch, self._paint([requests[i] for i in batch]), strict=True))
        return [images[i] for i in range(len(requests))]

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
        return self._tokens(prompt) <= self._limit()

    def describe(self) -> Mapping[str, object]:
        """Name, digest of the weights, pipeline and scheduler class, dtype, exactness, steps, guidance."""
        return {
            "name": self.name,
            "digest": self._digest,
            "pipeline": type(self._pipeline).__name__,
            "scheduler": type(self._pipeline.scheduler).__name__,
            "dtype": str(self._pipeline.dtype).removeprefix("torch."),
            "exact": self._exact,
            **self._options,
        }

    def _batches(self, requests: Sequence[GenerationRequest]) -> Iterator[list[int]]:
        """Positions of the requests of each model call. Those without a negative prompt go by themselves:
        some pipelines treat an absent negative prompt differently from an empty one."""
        for negative in (False, True):
            group = [i for i, request in enumerate(requests) if bool(request.negative_prompt) == negative]
            for start in range(0, len(group), self._batch_size):
                yield group[start : start + self._batch_size]

    @torch.inference_mode()
    def _paint(self, requests: Sequence[GenerationRequest]) -> list[Image]:
        for request in requests:
            self._warn_if_too_long(request.prompt)
        negative = [r.negative_prompt for r in requests]
        try:
            with _quiet():
                result = self._pipeline(
                    prompt=[r.prompt for r in requests],
                    generator=[torch.Generator("cpu").manual_seed(r.seed) for r in requests],
                    output_type="np",
                    **({"negative_prompt": negative} if any(negative) else {}),
                    **self._options,
                )
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"{self.name} ran out of memory with {len(requests)} pictures at once: lower the batch size"
            ) from error
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelError(f"{self.name} failed while painting: {_line(error)}") from error
        return [self._to_uint8(picture) for picture in result.images]

    def _to_uint8(self, picture: np.ndarray) -> Image:
        """(H, W, 3) in 0..1 -> uint8."""
        if not np.isfinite(picture).all():
            raise ModelError(f"{self.name} painted values that are no numbers: load it with dtype float32")
        return np.round(picture.clip(0, 1) * 255).astype(np.uint8)

    def _warn_if_too_long(self, prompt: str) -> None:
        if not self.fits(prompt):
            log.warning(
                "the prompt has %d tokens and %s reads %d: it does not see the end of %r",
                self._tokens(prompt),
                self.name,
                self._limit(),
                prompt if len(prompt) <= 60 else f"{prompt[:28]} ... {prompt[-28:]}",
            )

    def _tokens(self, prompt: str) -> int:
        return len(self._pipeline.tokenizer(prompt, truncation=False, verbose=False).input_ids)

    def _limit(self) -> int:
        positions = getattr(self._pipeline.text_encoder.config, "max_position_embeddings", None)
        return min(int(self._pipeline.tokenizer.model_max_length), int(positions or 1_000_000))


def split_words(prompt: str) -> list[str]:
    """The words of a prompt as written: split at space, dashes, slashes and commas, without outer
    punctuation."""
    pieces = (_without_outer_punctuation(piece) for piece in re.split(r"[\s,;:/|\u2010-\u2015-]+", prompt))
    return [piece for piece in pieces if piece]


def _without_outer_punctuation(word: str) -> str:
    kept = [i for i, character in enumerate(word) if unicodedata.category(character)[0] != "P"]
    return word[kept[0] : kept[-1] + 1] if kept else ""


def _check_options(steps: int | None, guidance_scale: float | None, dtype: str, batch_size: int) -> None:
    if steps is not None and steps < 1:
        raise InvalidInput(f"steps {steps} cannot be used: choose 1 or more")
    if guidance_scale is not None and not 0 <= guidance_scale < float("inf"):
        raise InvalidInput(f"guidance scale {guidance_scale} cannot be used: choose 0 or more")
    if batch_size < 1:
        raise InvalidInput(f"batch size {batch_size} cannot be used: choose 1 or more")
    if dtype not in DTYPES:
        raise InvalidInput(f"dtype {dtype!r} cannot be used: choose {', '.join(DTYPES)}")


def _folder_defaults(folder: Path) -> dict[str, int | float]:
    path = folder / DEFAULTS_FILE
    if not path.is_file():
        return {}
    try:
        defaults = json.loads(path.read_text(encoding="utf-8"))
        if unknown := sorted(set(defaults) - set(OPTIONS)):
            raise CheckpointError(f"{path} has an unknown key {unknown[0]!r}: use {', '.join(OPTIONS)}")
        _check_options(defaults.get(OPTIONS[0]), defaults.get(OPTIONS[1]), "float32", 1)
    except (OSError, ValueError, TypeError, AttributeError, InvalidInput) as error:
        raise CheckpointError(f"{path} cannot be used: {_line(error)}") from error
    return dict(defaults)


def _pipeline_defaults(pipeline: Any) -> dict[str, int | float]:
    parameters = inspect.signature(type(pipeline).__call__).parameters
    return {name: parameters[name].default for name in OPTIONS if name in parameters}


def _known_words(path: Path) -> frozenset[str] | None:
    return frozenset(path.read_text(encoding="utf-8").casefold().split()) if path.is_file() else None


@contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no remarks of the libraries on stderr; what a person must know, this file says itself."""
    libraries: list[Any] = [diffusers_logging, transformers_logging]
    before = [(lib, lib.is_progress_bar_enabled(), lib.get_verbosity()) for lib in libraries]
    try:
        for library in libraries:
            library.disable_progress_bar()
            library.set_verbosity_error()
        yield
    finally:
        for library, bars, verbosity in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def _line(error: Exception) -> str:
    """The error's message on one line of readable length."""
    return " ".join(str(error).split())[:300] or type(error).__name__

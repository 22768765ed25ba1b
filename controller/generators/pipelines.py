"""What every adapter over a diffusers pipeline needs: loading it, its options, and errors of one line.

Pipelines are taken as they are (`Any`): their classes share names of arguments, not types.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from contracts.errors import CheckpointError, InvalidInput, ModelError
from contracts.records import Image

log = logging.getLogger(__name__)
R = TypeVar("R")

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DEFAULTS_FILE = "legion_defaults.json"
"""May stand in a checkpoint folder: the sampling options it is best used with."""
OPTIONS = ("num_inference_steps", "guidance_scale")


def load_pipeline(folder: Path, auto_class: str, device: str, dtype: str) -> Any:
    """The pipeline in a folder, through diffusers' class of that name, such as "AutoPipelineForText2Image".

    Raises CheckpointError if the folder is no usable pipeline.
    """
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(f"there is no diffusers pipeline in {folder}: model_index.json is missing")
    try:
        with quiet():
            # Imported here, as the import itself prints: it remarks on torchvision, which nobody needs.
            import diffusers

            load: Any = getattr(diffusers, auto_class).from_pretrained
            pipeline = load(folder, dtype=DTYPES[dtype], local_files_only=True).to(device)
    except Exception as error:  # every library in there raises kinds of its own
        raise CheckpointError(f"the pipeline in {folder} cannot be loaded: {line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def check_options(steps: int | None, guidance_scale: float | None, dtype: str, batch_size: int) -> None:
    """Raises InvalidInput for an option out of range."""
    if steps is not None and steps < 1:
        raise InvalidInput(f"steps {steps} cannot be used: choose 1 or more")
    if guidance_scale is not None and not 0 <= guidance_scale < float("inf"):
        raise InvalidInput(f"guidance scale {guidance_scale} cannot be used: choose 0 or more")
    if batch_size < 1:
        raise InvalidInput(f"batch size {batch_size} cannot be used: choose 1 or more")
    if dtype not in DTYPES:
        raise InvalidInput(f"dtype {dtype!r} cannot be used: choose {', '.join(DTYPES)}")


def sampling_options(
    pipeline: Any, folder: Path, steps: int | None, guidance_scale: float | None
) -> dict[str, int | float]:
    """Steps and guidance: those given, else the folder's defaults, else the pipeline's own. Raises
    CheckpointError."""
    given = {"num_inference_steps": steps, "guidance_scale": guidance_scale}
    chosen = {name: value for name, value in given.items() if value is not None}
    return _pipeline_defaults(pipeline) | _folder_defaults(folder) | chosen


def takes(pipeline: Any, name: str) -> bool:
    """Has the pipeline an argument of that name?"""
    return name in inspect.signature(type(pipeline).__call__).parameters


def tokens(pipeline: Any, prompt: str) -> int:
    """How many tokens the prompt has for the pipeline's text encoder."""
    return len(pipeline.tokenizer(prompt, truncation=False, verbose=False).input_ids)


def token_limit(pipeline: Any) -> int:
    """How many tokens the pipeline's text encoder reads."""
    positions = getattr(pipeline.text_encoder.config, "max_position_embeddings", None)
    return min(int(pipeline.tokenizer.model_max_length), int(positions or 1_000_000))


def fits(pipeline: Any, prompt: str) -> bool:
    """Whether the pipeline's text encoder reads the whole prompt."""
    return tokens(pipeline, prompt) <= token_limit(pipeline)


def describe(
    name: str, pipeline: Any, digest: str, exact: bool, options: Mapping[str, int | float]
) -> dict[str, object]:
    """What a record keeps: name, digest, pipeline and scheduler class, dtype, exactness, steps, guidance."""
    return {
        "name": name,
        "digest": digest,
        "pipeline": type(pipeline).__name__,
        "scheduler": type(pipeline.scheduler).__name__,
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "exact": exact,
        **options,
    }


def in_batches(
    requests: Sequence[R], size: int, kind: Callable[[R], Hashable], paint: Callable[[list[R]], list[Image]]
) -> list[Image]:
    """Paint requests of one kind together, up to `size` per call; the pictures in the requests' order."""
    groups: dict[Hashable, list[int]] = {}
    for i, request in enumerate(requests):
        groups.setdefault(kind(request), []).append(i)
    images: dict[int, Image] = {}
    for group in groups.values():
        for start in range(0, len(group), size):
            batch = group[start : start + size]
            images.update(zip(batch, paint([requests[i] for i in batch]), strict=True))
    return [images[i] for i in range(len(requests))]


def warn_if_too_long(name: str, pipeline: Any, prompt: str) -> None:
    """Log a warning if the text encoder does not read the whole prompt."""
    count, limit = tokens(pipeline, prompt), token_limit(pipeline)
    if count > limit:
        log.warning(
            "the prompt has %d tokens and %s reads %d: it does not see the end of %r",
            count,
            name,
            limit,
            prompt if len(prompt) <= 60 else f"{prompt[:28]} ... {prompt[-28:]}",
        )


@contextmanager
def painting(name: str, pictures: int) -> Iterator[None]:
    """Turns what a pipeline raises while painting into a ModelError of one line, and keeps it quiet."""
    try:
        with quiet():
            yield
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"{name} ran out of memory with {pictures} pictures at once: lower the batch size"
        ) from error
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{name} failed while painting: {line(error)}") from error


def to_uint8(name: str, picture: NDArray[np.floating]) -> Image:
    """(H, W, 3) in 0..1 -> uint8. Raises ModelError for values that are no numbers."""
    if not np.isfinite(picture).all():
        raise ModelError(f"{name} painted values that are no numbers: load it with dtype float32")
    return np.round(picture.clip(0, 1) * 255).astype(np.uint8)


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no remarks of the libraries on stderr; what a person must know, the adapters say
    themselves."""
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


def line(error: Exception) -> str:
    """The error's message on one line of readable length."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _folder_defaults(folder: Path) -> dict[str, int | float]:
    path = folder / DEFAULTS_FILE
    if not path.is_file():
        return {}
    try:
        defaults = json.loads(path.read_text(encoding="utf-8"))
        if unknown := sorted(set(defaults) - set(OPTIONS)):
            raise CheckpointError(f"{path} has an unknown key {unknown[0]!r}: use {', '.join(OPTIONS)}")
        check_options(defaults.get(OPTIONS[0]), defaults.get(OPTIONS[1]), "float32", 1)
    except (OSError, ValueError, TypeError, AttributeError, InvalidInput) as error:
        raise CheckpointError(f"{path} cannot be used: {line(error)}") from error
    return dict(defaults)


def _pipeline_defaults(pipeline: Any) -> dict[str, int | float]:
    parameters = inspect.signature(type(pipeline).__call__).parameters
    return {name: parameters[name].default for name in OPTIONS if name in parameters}

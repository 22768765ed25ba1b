"""What every adapter over a diffusers pipeline needs: its options and limits, and errors of one line.

Pipelines are taken as they are (`Any`): their classes share names of arguments, not types.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import CheckpointError, InvalidInput, ModelError
from contracts.memory import out_of_memory
from contracts.records import Image
from controller.generators.loading import Loan, as_inpainting
from controller.generators.quiet import line, quiet

log = logging.getLogger(__name__)

DEFAULTS_FILE = "legion_defaults.json"
"""May stand in a checkpoint folder: the sampling options it is best used with."""
OPTIONS = ("num_inference_steps", "guidance_scale", "width", "height", "max_sequence_length")
CAN_INPAINT = (
    "Stable Diffusion 1 and 2, SDXL, SD 3, FLUX, Kandinsky, Qwen-Image and Z-Image checkpoints and those "
    "made for inpainting"
)


@dataclass(frozen=True)
class Sampling:
    """How a pipeline is asked to paint. What is None is the folder's or the pipeline's own choice."""

    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    max_sequence_length: int | None = None
    """Tokens that a T5 text encoder reads; such pipelines alone have it."""

    def options(self) -> dict[str, int | float]:
        """What is given, under the pipelines' own names."""
        values = (self.steps, self.guidance_scale, self.width, self.height, self.max_sequence_length)
        return {name: value for name, value in zip(OPTIONS, values, strict=True) if value is not None}

    def check(self) -> None:
        """Raises InvalidInput for an option out of range."""
        if self.steps is not None and self.steps < 1:
            raise InvalidInput(f"steps {self.steps} cannot be used: choose 1 or more")
        if self.guidance_scale is not None and not 0 <= self.guidance_scale < float("inf"):
            raise InvalidInput(f"guidance scale {self.guidance_scale} cannot be used: choose 0 or more")
        for name in ("width", "height", "max_sequence_length"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InvalidInput(f"{name} {value} cannot be used: choose 1 or more")


def check_batch_size(batch_size: int) -> None:
    """Raises InvalidInput below 1."""
    if batch_size < 1:
        raise InvalidInput(f"batch size {batch_size} cannot be used: choose 1 or more")


def sampling_options(name: str, pipeline: Any, folder: Path, sampling: Sampling) -> dict[str, int | float]:
    """What is given, else the folder's defaults, else the pipeline's own; without what the pipeline does not
    take, which the log names. Raises CheckpointError."""
    asked = _folder_defaults(folder) | sampling.options()
    for option in asked:
        if not takes(pipeline, option):
            log.warning("%s (%s) takes no %s: it is left out", name, type(pipeline).__name__, option)
    return _pipeline_defaults(pipeline) | {key: value for key, value in asked.items() if takes(pipeline, key)}


def takes(pipeline: Any, name: str) -> bool:
    """Has the pipeline an argument of that name?"""
    return name in inspect.signature(type(pipeline).__call__).parameters


def fills_masks(pipeline: Any) -> bool:
    """Does it paint inside a mask, rather than whole pictures?"""
    return takes(pipeline, "mask_image")


def inpainting_view(name: str, loan: Loan) -> Any:
    """The inpainting pipeline over a loan's weights. Raises CheckpointError for kinds that have none."""
    try:
        with quiet():
            pipeline = loan()
            return pipeline if fills_masks(pipeline) else loan.view("inpainting", as_inpainting)
    except (CheckpointError, InvalidInput):
        raise
    except Exception as error:  # whatever a pipeline of another kind makes of it
        raise CheckpointError(
            f"{name} cannot inpaint: {line(error)}; choose an inpainting checkpoint. {CAN_INPAINT} can"
        ) from error


def alignment(pipeline: Any) -> int:
    """Both sides of a picture must be multiples of this many pixels."""
    scale = int(pipeline.vae_scale_factor)
    patch = int(getattr(pipeline, "patch_size", 1))
    # FLUX packs two by two latents and says so by its image processor alone, SD 3 by its patch size alone.
    return max(scale * patch, int(pipeline.image_processor.config.vae_scale_factor))


def native_size(pipeline: Any) -> tuple[int, int]:
    """(width, height) that the model was trained at, in multiples of the alignment."""
    model: Any = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    latents = getattr(pipeline, "default_sample_size", None) or model.config.sample_size
    sides = (latents, latents) if isinstance(latents, int) else tuple(latents)[::-1]
    scale, step = int(pipeline.vae_scale_factor), alignment(pipeline)
    width, height = (max(step, int(side) * scale // step * step) for side in sides)
    return width, height


@dataclass(frozen=True)
class Reader:
    """One of a pipeline's text encoders."""

    tokenizer: Any
    limit: int

    def count(self, prompt: str) -> int:
        """Tokens of the prompt, with those at its ends."""
        return len(self.tokenizer(prompt, truncation=False, verbose=False).input_ids)


def readers(pipeline: Any, options: Mapping[str, int | float]) -> list[Reader]:
    """The text encoders of a pipeline, the one that reads most first."""
    found = []
    for suffix in ("", "_2", "_3"):
        tokenizer = getattr(pipeline, f"tokenizer{suffix}", None)
        encoder = getattr(pipeline, f"text_encoder{suffix}", None)
        if tokenizer is None or encoder is None:
            continue
        # T5 has no fixed places: it reads as much as the pipeline lets it.
        own = getattr(encoder.config, "max_position_embeddings", None)
        places = own or options.get("max_sequence_length") or tokenizer.model_max_length
        found.append(Reader(tokenizer, min(int(tokenizer.model_max_length), int(places))))
    return sorted(found, key=lambda reader: -reader.limit)


def fits(read_by: list[Reader], prompt: str) -> bool:
    """Whether the text encoder that reads most reads the whole prompt."""
    return not read_by or read_by[0].count(prompt) <= read_by[0].limit


def say_what_is_not_read(name: str, read_by: list[Reader], prompt: str) -> None:
    """Log a warning if no text encoder reads the whole prompt, a remark if one of several does not."""
    for number, reader in enumerate(read_by):
        if (count := reader.count(prompt)) > reader.limit:
            shown = prompt if len(prompt) <= 60 else f"{prompt[:28]} ... {prompt[-28:]}"
            if number == 0:
                log.warning(
                    "the prompt has %d tokens and %s reads %d: it does not see the end of %r",
                    count,
                    name,
                    reader.limit,
                    shown,
                )
                return
            log.info("a smaller text encoder of %s reads %d of %d tokens", name, reader.limit, count)


def negative_prompts(name: str, pipeline: Any, prompts: list[str]) -> dict[str, list[str]]:
    """The argument for them, if there are any and the pipeline takes them; the log says if it does not."""
    if not any(prompts):
        return {}
    if not takes(pipeline, "negative_prompt"):
        log.warning("%s takes no negative prompt: it is left out", name)
        return {}
    return {"negative_prompt": prompts}


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


@contextmanager
def painting(name: str) -> Iterator[None]:
    """Turns what a pipeline raises while painting into a ModelError of one line, and keeps it quiet. What ran
    out of memory passes through."""
    try:
        with quiet():
            yield
    except (RuntimeError, ValueError, TypeError) as error:
        if out_of_memory(error):
            raise
        raise ModelError(f"{name} failed while painting: {line(error)}") from error


def pictures(name: str, result: Any) -> list[Image]:
    """The pictures of a pipeline's result, (H, W, 3) in 0..1, as uint8. Raises ModelError for values that are
    no numbers; a picture that the checkpoint's own safety checker blackened is named in the log."""
    if any(getattr(result, "nsfw_content_detected", None) or ()):
        log.warning("the safety checker that comes with %s made a picture black", name)
    return [_to_uint8(name, picture) for picture in result.images]


def _to_uint8(name: str, picture: NDArray[np.floating]) -> Image:
    if not np.isfinite(picture).all():
        raise ModelError(f"{name} painted values that are no numbers: load it with dtype float32")
    return np.round(picture.clip(0, 1) * 255).astype(np.uint8)


def _folder_defaults(folder: Path) -> dict[str, int | float]:
    path = folder / DEFAULTS_FILE
    if not path.is_file():
        return {}
    try:
        defaults = json.loads(path.read_text(encoding="utf-8"))
        if unknown := sorted(set(defaults) - set(OPTIONS)):
            raise CheckpointError(f"{path} has an unknown key {unknown[0]!r}: use {', '.join(OPTIONS)}")
        Sampling(*(defaults.get(name) for name in OPTIONS)).check()
    except (OSError, ValueError, TypeError, AttributeError, InvalidInput) as error:
        raise CheckpointError(f"{path} cannot be used: {line(error)}") from error
    return dict(defaults)


def _pipeline_defaults(pipeline: Any) -> dict[str, int | float]:
    parameters = inspect.signature(type(pipeline).__call__).parameters
    own = {name: parameters[name].default for name in OPTIONS if name in parameters}
    return {name: value for name, value in own.items() if value is not None}

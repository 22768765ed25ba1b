"""Any inpainting checkpoint that diffusers can load, behind the Inpainter protocol.

A plain text-to-image checkpoint paints inside a mask too: at every step, what lies outside is set back to the
crop's own latents. Such a checkpoint is shared with the generator that has loaded it (`share`), at no memory.

As for generators, every request has its own CPU generator, and an exact inpainter paints one crop per model
call, so that a crop is the same alone and in a batch, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Pillow

from contracts.errors import CheckpointError, InvalidInput, ModelError
from contracts.records import Image, InpaintRequest, Mask
from controller.checkpoints import weights_digest
from controller.generators import pipelines
from controller.generators.diffusers_pipeline import DiffusersGenerator

AUTO_CLASS = "AutoPipelineForInpainting"


class DiffusersInpainter:
    """An Inpainter over a diffusers pipeline."""

    def __init__(
        self,
        name: str,
        pipeline: Any,
        options: Mapping[str, int | float],
        batch_size: int,
        digest: str,
        exact: bool = True,
    ) -> None:
        """Use `load` or `share`. `options` are passed to the pipeline."""
        self.name = name
        self._pipeline, self._options, self._digest = pipeline, dict(options), digest
        self._exact, self._batch_size = exact, 1 if exact else batch_size
        self.alignment = int(pipeline.image_processor.config.vae_scale_factor)
        self.native_size = _native_size(pipeline, self.alignment)

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
    ) -> DiffusersInpainter:
        """A pipeline folder of its own; options, defaults and errors as for `DiffusersGenerator.load`."""
        folder = Path(path)
        pipelines.check_options(steps, guidance_scale, dtype, batch_size)
        pipeline = pipelines.load_pipeline(folder, AUTO_CLASS, device, dtype)
        options = pipelines.sampling_options(pipeline, folder, steps, guidance_scale)
        exact = torch.device(device).type == "cpu" if exact is None else exact
        return cls(folder.resolve().name, pipeline, options, batch_size, weights_digest(folder), exact)

    @classmethod
    def share(
        cls,
        generator: DiffusersGenerator,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        batch_size: int = 8,
        exact: bool | None = None,
    ) -> DiffusersInpainter:
        """The weights that a generator has in memory; what is None is as the generator has it.

        Raises CheckpointError if diffusers cannot inpaint with such a pipeline, InvalidInput for an option
        out of range.
        """
        pipelines.check_options(steps, guidance_scale, "float32", batch_size)
        described = generator.describe()
        try:
            with pipelines.quiet():
                import diffusers

                from_pipe: Any = getattr(diffusers, AUTO_CLASS).from_pipe
                pipeline = from_pipe(generator.pipeline)
        except Exception as error:  # whatever a pipeline of another kind makes of it
            raise CheckpointError(
                f"{generator.name} cannot inpaint: {pipelines.line(error)}; choose an inpainting checkpoint"
            ) from error
        pipeline.set_progress_bar_config(disable=True)
        given = {"num_inference_steps": steps, "guidance_scale": guidance_scale}
        own = {name: described[name] for name in pipelines.OPTIONS if name in described}
        options: Any = own | {name: value for name, value in given.items() if value is not None}
        exact = bool(described["exact"]) if exact is None else exact
        return cls(generator.name, pipeline, options, batch_size, str(described["digest"]), exact)

    def inpaint(self, requests: Sequence[InpaintRequest]) -> list[Image]:
        """One uint8 picture per request, of its crop's size, in order.

        Pixels outside the mask come back through the model's autoencoder, a little different. Raises
        InvalidInput for a crop, mask or strength that cannot be painted, ModelError if the model fails.
        """
        for request in requests:
            self._check(request)
        return pipelines.in_batches(requests, self._batch_size, _kind, self._paint)

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder reads the whole prompt."""
        return pipelines.fits(self._pipeline, prompt)

    def describe(self) -> Mapping[str, object]:
        """Name, digest of the weights, pipeline and scheduler class, dtype, exactness, steps, guidance."""
        return pipelines.describe(self.name, self._pipeline, self._digest, self._exact, self._options)

    def _check(self, request: InpaintRequest) -> None:
        height, width = request.mask.shape
        if request.image.shape != (height, width, 3) or request.image.dtype != np.uint8:
            raise InvalidInput(
                f"a crop of {request.image.dtype} {request.image.shape} with a mask of {request.mask.shape} "
                f"cannot be painted: it must be uint8 ({height}, {width}, 3)"
            )
        if height % self.alignment or width % self.alignment:
            raise InvalidInput(
                f"a crop of {width}x{height} cannot be painted: {self.name} needs multiples of "
                f"{self.alignment}"
            )
        if not 0 < request.strength <= 1:
            raise InvalidInput(f"strength {request.strength} cannot be used: choose above 0 up to 1")
        steps = self._options.get("num_inference_steps")
        if steps is not None and int(steps * request.strength) < 1:
            raise InvalidInput(
                f"strength {request.strength:g} with {steps} steps leaves no step to paint: choose at least "
                f"{math.ceil(100 / steps) / 100:g}"
            )

    @torch.inference_mode()
    def _paint(self, requests: Sequence[InpaintRequest]) -> list[Image]:
        for request in requests:
            pipelines.warn_if_too_long(self.name, self._pipeline, request.prompt)
        height, width = requests[0].mask.shape
        negative = [r.negative_prompt for r in requests]
        # Models made for inpainting alone do not all have a strength.
        strength = {"strength": requests[0].strength} if pipelines.takes(self._pipeline, "strength") else {}
        with pipelines.painting(self.name, len(requests)):
            result = self._pipeline(
                prompt=[r.prompt for r in requests],
                image=[Pillow.fromarray(r.image) for r in requests],
                mask_image=[Pillow.fromarray(self._whole_cells(r.mask)) for r in requests],
                height=height,
                width=width,
                generator=[torch.Generator("cpu").manual_seed(r.seed) for r in requests],
                output_type="np",
                **({"negative_prompt": negative} if any(negative) else {}),
                **strength,
                **self._options,
            )
        images = [pipelines.to_uint8(self.name, picture) for picture in result.images]
        if any(image.shape != (height, width, 3) for image in images):
            raise ModelError(f"{self.name} painted {images[0].shape} for a crop of {width}x{height}")
        return images

    def _whole_cells(self, mask: Mask) -> Image:
        """The mask as a gray picture, grown to whole latent cells: diffusers samples one pixel per cell, and
        a cell whose pixel is missed would not be painted."""
        cell = self.alignment
        height, width = mask.shape
        cells = mask.reshape(height // cell, cell, width // cell, cell).any(axis=(1, 3))
        return np.kron(cells, np.full((cell, cell), 255, dtype=np.uint8))


def _native_size(pipeline: Any, alignment: int) -> tuple[int, int]:
    """(width, height) that the model was trained at, in multiples of the alignment."""
    model: Any = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    latents = getattr(pipeline, "default_sample_size", None) or model.config.sample_size
    sides = (latents, latents) if isinstance(latents, int) else tuple(latents)[::-1]
    scale = int(pipeline.vae_scale_factor)
    width, height = (max(alignment, int(side) * scale // alignment * alignment) for side in sides)
    return width, height


def _kind(request: InpaintRequest) -> tuple[object, ...]:
    """What requests of one model call share: size, strength, and whether there is a negative prompt."""
    return request.mask.shape, request.strength, bool(request.negative_prompt)

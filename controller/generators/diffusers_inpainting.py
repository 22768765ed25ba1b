"""Any inpainting checkpoint that diffusers can load, behind the Inpainter protocol.

A plain text-to-image checkpoint paints inside a mask too: at every step, what lies outside is set back to the
crop's own latents. Such a checkpoint is shared with the generator that has loaded it (`share`), at no memory.

As for generators, every request has its own CPU generator, and an exact inpainter paints one crop per model
call, so that a crop is the same alone and in a batch, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image as Pillow

from contracts.errors import InvalidInput, ModelError
from contracts.records import Image, InpaintRequest, Mask
from controller.checkpoints import weights_digest
from controller.generators import pipelines
from controller.generators.lending import is_exact, make_batching, name_of, open_loan
from controller.generators.loading import Loan, Weights
from controller.generators.pipelines import Sampling
from controller.generators.shelf import Shelf

if TYPE_CHECKING:
    from controller.generators.diffusers_pipeline import DiffusersGenerator


class DiffusersInpainter:
    """An Inpainter over a diffusers pipeline."""

    def __init__(self, name: str, loan: Loan, sampling: Sampling, batch_size: int, exact: bool) -> None:
        """Use `load` or `share`."""
        self.name, self.loan, self._exact = name, loan, exact
        pipeline = self.pipeline
        options = pipelines.sampling_options(name, pipeline, loan.folder, sampling)
        # A crop has its own size.
        self._options = {key: value for key, value in options.items() if key not in ("width", "height")}
        self._readers = pipelines.readers(pipeline, self._options)
        self._digest = weights_digest(loan.folder)
        self.batching = make_batching(name, loan, batch_size, exact)
        self.alignment = pipelines.alignment(pipeline)
        step, native = self.alignment, pipelines.native_size(pipeline)
        given = options.get("width", native[0]), options.get("height", native[1])
        self.native_size = (max(step, int(given[0]) // step * step), max(step, int(given[1]) // step * step))

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
    ) -> DiffusersInpainter:
        """A checkpoint of its own; options, defaults and errors as for `DiffusersGenerator.load`. `width` and
        `height` are what the model paints best at."""
        sampling = Sampling(steps, guidance_scale, width, height, max_sequence_length)
        loan = open_loan(path, sampling, batch_size, Weights(**weights), shelf)
        return cls(name_of(path), loan, sampling, batch_size, is_exact(exact, loan))

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
        asked = Sampling(steps, guidance_scale)
        asked.check()
        pipelines.check_batch_size(batch_size)
        own = generator.sampling
        sampling = replace(
            own,
            steps=own.steps if steps is None else steps,
            guidance_scale=own.guidance_scale if guidance_scale is None else guidance_scale,
        )
        exact = generator.exact if exact is None else exact
        return cls(generator.name, generator.loan, sampling, batch_size, exact)

    @property
    def pipeline(self) -> Any:
        """The pipeline itself. Raises CheckpointError for kinds that cannot inpaint."""
        return pipelines.inpainting_view(self.name, self.loan)

    def inpaint(self, requests: Sequence[InpaintRequest]) -> list[Image]:
        """One uint8 picture per request, of its crop's size, in order.

        Pixels outside the mask come back through the model's autoencoder, a little different. Raises
        InvalidInput for a crop, mask or strength that cannot be painted, ModelError if the model fails.
        """
        for request in requests:
            self._check(request)
        for prompt in dict.fromkeys(request.prompt for request in requests):
            pipelines.say_what_is_not_read(self.name, self._readers, prompt)
        return self.batching.paint(requests, _kind, self._paint)

    def fits(self, prompt: str) -> bool:
        """Whether the text encoder reads the whole prompt."""
        return pipelines.fits(self._readers, prompt)

    def describe(self) -> Mapping[str, object]:
        """Name, digest of the weights, pipeline and scheduler class, dtype, exactness, steps, guidance."""
        said = pipelines.describe(self.name, self.pipeline, self._digest, self._exact, self._options)
        return {**said, **self.loan.weights.describe()}

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
        pipeline = self.pipeline
        height, width = requests[0].mask.shape
        # Models made for inpainting alone do not all have a strength.
        strength = {"strength": requests[0].strength} if pipelines.takes(pipeline, "strength") else {}
        with pipelines.painting(self.name):
            result = pipeline(
                prompt=[r.prompt for r in requests],
                image=[Pillow.fromarray(r.image) for r in requests],
                mask_image=[Pillow.fromarray(self._whole_cells(r.mask)) for r in requests],
                height=height,
                width=width,
                generator=[torch.Generator("cpu").manual_seed(r.seed) for r in requests],
                output_type="np",
                **pipelines.negative_prompts(self.name, pipeline, [r.negative_prompt for r in requests]),
                **strength,
                **self._options,
            )
        images = pipelines.pictures(self.name, result)
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


def _kind(request: InpaintRequest) -> tuple[object, ...]:
    """What requests of one model call share: size, strength, and whether there is a negative prompt."""
    return request.mask.shape, request.strength, bool(request.negative_prompt)

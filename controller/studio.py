"""The loops as one call each, for programs: `from controller import regenerate, inpaint`.

A studio is what both work with: tools, settings and the record. `flows.studio.open_studio` makes one of a
profile, and it can be made of any parts that keep the protocols.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from contracts.errors import InvalidInput
from contracts.protocols import MemoryBank
from contracts.records import Image, Mask, Run
from controller import inpainting, regeneration
from controller.inpainting import InpaintingCase, InpaintingSettings, InpaintingTools
from controller.regeneration import Case, RegenerationSettings, RegenerationTools
from controller.steps import Event, ignore

Picture: TypeAlias = Image | Pillow.Image
"""uint8 (H, W, 3), RGB, or Pillow's picture, which is turned upright."""


def unique_ids(subjects: Sequence[str]) -> list[str]:
    """An id of its own for each run, whatever it is about."""
    return [f"run-{secrets.token_hex(6)}" for _ in subjects]


@dataclass(frozen=True)
class Studio:
    """What the loops work with. Tools are asked for when they are needed: they may have models to load."""

    bank: MemoryBank
    regeneration: Callable[[], tuple[RegenerationTools, RegenerationSettings]]
    inpainting: Callable[[], tuple[InpaintingTools, InpaintingSettings]]
    new_ids: Callable[[Sequence[str]], list[str]] = unique_ids
    """Names new runs after what they are about."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a loop made of one prompt or picture."""

    run: Run
    """Every round: prompts, findings, scores, verdicts."""
    bank: MemoryBank
    """Where the run's pictures are."""

    @property
    def image(self) -> Image:
        """The best picture, uint8 (H, W, 3), RGB. Raises InvalidInput if a person accepted none, and
        MemoryBankError if it cannot be read."""
        if self.run.result is None:
            raise InvalidInput(
                f"run {self.run.run_id} has no picture to show: none of its rounds was accepted"
            )
        return self.bank.image(self.run.result)

    def save(self, path: str | Path) -> None:
        """Write the picture, in the format that the path's ending names. Raises as `image`, and InvalidInput
        if it cannot be written."""
        try:
            Pillow.fromarray(self.image).save(path)
        except (OSError, ValueError) as error:
            raise InvalidInput(f"{path} cannot be written ({error})") from error


@overload
def regenerate(
    prompt: str,
    studio: Studio,
    *,
    seed: int = 0,
    run_id: str | None = None,
    on_event: Callable[[Event], None] = ignore,
    **settings: Any,
) -> Result: ...
@overload
def regenerate(
    prompt: Sequence[str],
    studio: Studio,
    *,
    seed: int = 0,
    run_id: str | None = None,
    on_event: Callable[[Event], None] = ignore,
    **settings: Any,
) -> list[Result]: ...
def regenerate(
    prompt: str | Sequence[str],
    studio: Studio,
    *,
    seed: int = 0,
    run_id: str | None = None,
    on_event: Callable[[Event], None] = ignore,
    **settings: Any,
) -> Result | list[Result]:
    """Paint, diagnose, improve the prompt and paint again; the best round counts. Several prompts are worked
    on together, which is faster and gives each the same result.

    `settings` are fields of RegenerationSettings in place of the studio's, such as `rounds=5`. The same call
    with the `run_id` of an earlier one goes on where that stood; several prompts get it with -1, -2, and so
    on. Raises as `controller.regeneration.regenerate`, and TypeError for a setting that there is not.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if not prompts:
        return []
    tools, usual = studio.regeneration()
    cases = [Case(i, text, seed) for i, text in zip(_ids(studio, run_id, prompts), prompts, strict=True)]
    runs = regeneration.regenerate(cases, tools, studio.bank, replace(usual, **settings), on_event=on_event)
    results = [Result(run, studio.bank) for run in runs]
    return results[0] if isinstance(prompt, str) else results


def inpaint(
    picture: Picture,
    studio: Studio,
    prompt: str = "",
    *,
    mask: Mask | Pillow.Image | None = None,
    protect: Mask | Pillow.Image | None = None,
    seed: int = 0,
    run_id: str | None = None,
    on_event: Callable[[Event], None] = ignore,
    **settings: Any,
) -> Result:
    """Repair a picture region by region; outside the regions it stays the same, bit for bit.

    `prompt` says what the picture shows; without it the defender's words do. In `mask`, (H, W), exactly the
    pixels that may change are true (bright, in Pillow's picture), in `protect` those that never may.
    `settings` are fields of InpaintingSettings in place of the studio's, such as `candidates=4`; `run_id` is
    as for `regenerate`. Raises as `controller.inpainting.inpaint`, InvalidInput for a picture with
    transparency or more than 8 bits a channel, and TypeError for a setting that there is not.
    """
    pixels = _pixels(picture)
    tools, usual = studio.inpainting()
    (name,) = _ids(studio, run_id, [prompt or "picture"])
    case = InpaintingCase(name, pixels, prompt, seed, _mask(mask), _mask(protect))
    chosen = replace(usual, **settings)
    (run,) = inpainting.inpaint([case], tools, studio.bank, chosen, on_event=on_event)
    return Result(run, studio.bank)


def _ids(studio: Studio, given: str | None, subjects: Sequence[str]) -> list[str]:
    if given is None:
        return studio.new_ids(subjects)
    return [given] if len(subjects) == 1 else [f"{given}-{n}" for n in range(1, len(subjects) + 1)]


def _pixels(picture: Picture) -> Image:
    if not isinstance(picture, Pillow.Image):
        if not isinstance(picture, np.ndarray):
            raise InvalidInput(
                f"a {type(picture).__name__} is no picture: open a file with PIL.Image.open, or give an array"
            )
        return picture
    if picture.has_transparency_data:
        raise InvalidInput('the picture has transparency: use legion inpaint, or picture.convert("RGB")')
    if picture.mode.startswith(("I", "F")):
        raise InvalidInput(f"a picture of mode {picture.mode} has more than 8 bits a channel: make it 8")
    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _mask(mask: Mask | Pillow.Image | None) -> Mask | None:
    if not isinstance(mask, Pillow.Image):
        return mask
    return np.asarray(ImageOps.exif_transpose(mask).convert("L")) >= 128

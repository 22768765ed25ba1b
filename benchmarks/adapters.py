"""What an adapter costs beside a bare call of its pipeline: `python -m benchmarks.adapters`.

The bundled models paint the same prompts, and repair the same region, with the same seeds, by the adapter and
by the pipeline itself, in turns, so that both meet the same moods of the machine. Pictures are compared, too:
they must be equal. It is run by hand on a quiet machine; among the tests the bar would fail by chance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image as Pillow

from contracts.records import GenerationRequest, Image, InpaintRequest
from controller.generators.diffusers_inpainting import DiffusersInpainter
from controller.generators.diffusers_pipeline import DiffusersGenerator
from flows.profiles.loading import load_profile

BAR = 0.02
PROMPT = "a red cone on a wooden table"
SIDE, REGION = 64, slice(16, 48)
"""Pixels of the crop that is repaired, and the region in it, from and to."""

Paint: TypeAlias = Callable[[int], Image]
"""A picture for a seed."""


def main() -> int:
    """Print both medians and the overhead of both arms; exit code 1 if one is above the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40, help="painted by each side (default: 40)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    figures = {}
    for name, sides in (("generator", generating), ("inpainter", inpainting)):
        figures[name] = compare(*sides(), arguments.pictures)
        for key, value in figures[name].items():
            print(f"{name} {key}: {value:.4f}", flush=True)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    return int(max(found["overhead"] for found in figures.values()) > BAR)


def generating() -> tuple[Paint, Paint]:
    """A whole picture, by the adapter and by its pipeline."""
    generator = DiffusersGenerator.load(load_profile("tabletop").generator.path)
    options = _options(generator)

    def adapter(seed: int) -> Image:
        return generator.generate([GenerationRequest(PROMPT, seed)])[0]

    return adapter, lambda seed: _bare(generator.pipeline, seed, options)


def inpainting() -> tuple[Paint, Paint]:
    """A region of a picture, by the adapter and by its pipeline. The region is made of whole latent cells, as
    the adapter would make it."""
    profile = load_profile("tabletop")
    inpainter = DiffusersInpainter.load(profile.inpainting.path or profile.generator.path)
    options = _options(inpainter)
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[REGION, REGION] = True

    def adapter(seed: int) -> Image:
        return inpainter.inpaint([InpaintRequest(picture, mask, PROMPT, seed)])[0]

    def bare(seed: int) -> Image:
        gray = Pillow.fromarray(mask.astype(np.uint8) * 255)
        given = {"image": [Pillow.fromarray(picture)], "mask_image": [gray]}
        size = {"height": SIDE, "width": SIDE, "strength": 1.0}
        return _bare(inpainter.pipeline, seed, {**given, **size, **options})

    return adapter, bare


def compare(adapter: Paint, bare: Paint, pictures: int) -> dict[str, float]:
    """CPU seconds per picture of both (waiting for others is not theirs), and the share that the adapter
    adds: the median over pairs that were painted one after the other, either first in turn."""
    adapter(0), bare(0)  # the first call of each warms up
    taken: dict[str, list[float]] = {"adapter": [], "bare": []}
    for seed in range(pictures):
        sides = [("adapter", adapter), ("bare", bare)]
        images = {}
        for name, paint in sides if seed % 2 else sides[::-1]:
            begun = time.process_time()
            images[name] = paint(seed)
            taken[name].append(time.process_time() - begun)
        assert np.array_equal(images["adapter"], images["bare"]), f"the pictures of seed {seed} differ"
    ratios = [one / other for one, other in zip(taken["adapter"], taken["bare"], strict=True)]
    return {
        "adapter_seconds": statistics.median(taken["adapter"]),
        "bare_seconds": statistics.median(taken["bare"]),
        "overhead": statistics.median(ratios) - 1,
    }


def _options(painter: DiffusersGenerator | DiffusersInpainter) -> dict[str, Any]:
    """Steps and guidance that the adapter paints with."""
    described = painter.describe()
    return {name: described[name] for name in ("num_inference_steps", "guidance_scale")}


@torch.inference_mode()
def _bare(pipeline: Any, seed: int, options: dict[str, Any]) -> Image:
    noise = torch.Generator("cpu").manual_seed(seed)
    made = pipeline(prompt=[PROMPT], generator=[noise], output_type="np", **options)
    return np.round(made.images[0] * 255).astype(np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())

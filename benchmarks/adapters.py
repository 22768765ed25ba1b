"""What an adapter costs beside a bare call of its pipeline: `python -m benchmarks.adapters`.

The bundled model paints the same prompts with the same seeds, by the adapter and by the pipeline itself, in
turns, so that both meet the same moods of the machine. Pictures are compared, too: they must be equal.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from contracts.records import GenerationRequest, Image
from controller.generators.diffusers_pipeline import DiffusersGenerator
from flows.profiles.loading import load_profile

BAR = 0.02
PROMPT = "a red cone on a wooden table"


def main() -> int:
    """Print both medians and the overhead; exit code 1 above the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=40, help="painted by each side (default: 40)")
    parser.add_argument("--json", metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    section = load_profile("tabletop").generator
    steps, guidance = section.steps, section.guidance_scale
    generator = DiffusersGenerator.load(section.path, steps=steps, guidance_scale=guidance)
    pipeline = generator.pipeline

    def adapter(seed: int) -> Image:
        return generator.generate([GenerationRequest(PROMPT, seed)])[0]

    @torch.inference_mode()
    def bare(seed: int) -> Image:
        made = pipeline(
            prompt=[PROMPT],
            generator=[torch.Generator("cpu").manual_seed(seed)],
            output_type="np",
            num_inference_steps=steps,
            guidance_scale=guidance,
        )
        return np.round(made.images[0] * 255).astype(np.uint8)

    figures = compare(adapter, bare, arguments.pictures)
    for name, value in figures.items():
        print(f"{name}: {value:.4f}")
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)
    return int(figures["overhead"] > BAR)


def compare(adapter: Callable[[int], Image], bare: Callable[[int], Image], pictures: int) -> dict[str, float]:
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


if __name__ == "__main__":
    raise SystemExit(main())

"""What the training of one bundled model takes from another: made once, and kept in the build folder."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contracts.errors import CheckpointError
from tabletop import data
from tabletop.flaws import Pair, render_pair
from tabletop.scenes import SEED_RANGES, sample_scene, solid_count

if TYPE_CHECKING:
    from tabletop.paintings import PaintedSamples

PAINTED = 2_000
PAINTING_SEED = 71


def bundled_clip(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from transformers import CLIPModel, CLIPTokenizer

    folder = args.weights / "clip"
    if not (folder / "model.safetensors").exists():
        raise CheckpointError(f"there is no CLIP under {folder}; train it first with: legion train clip")
    model = CLIPModel.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    return model, CLIPTokenizer.from_pretrained(folder)


def trained_autoencoder(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from diffusers import AutoencoderKL

    folder = args.build / "autoencoder" / "model"
    if not folder.exists():
        raise CheckpointError(
            f"there is no autoencoder under {folder}; train it first with: legion train autoencoder"
        )
    return AutoencoderKL.from_pretrained(folder).eval()


def reconstructed(
    args: argparse.Namespace, split: str, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Clean and flawed pictures of a split after the generator's autoencoder, kept in the build folder."""
    from tabletop import autoencoder

    path = args.build / "autoencoder" / f"world{data.WORLD}-{split}-{count}.npz"
    if not path.exists():
        pairs, vae = data.load(split, count, args.data), trained_autoencoder(args)
        np.savez(
            path,
            clean=autoencoder.reconstruct(vae, pairs.clean),
            flawed=autoencoder.reconstruct(vae, pairs.flawed),
        )
    stored = np.load(path)
    return stored["clean"], stored["flawed"]


def geometry_pairs(part: range) -> list[Pair]:
    """Pairs of the geometry check, with the outlines of their solids; rendered anew each time."""
    first = SEED_RANGES["geometry"][0]
    with ProcessPoolExecutor() as pool:
        return list(pool.map(_pair, range(first + part.start, first + part.stop), chunksize=25))


def _pair(seed: int) -> Pair:
    return render_pair(seed, objects=solid_count(seed))


def paintings(args: argparse.Namespace) -> tuple[PaintedSamples, PaintedSamples]:
    """Pictures by the finished generator, kept in the build folder: those that the geometry check can speak
    of, and the others.
    """
    from tabletop import geometry
    from tabletop.paintings import Painting, labeled, modifiers_for, paint

    seeds = range(SEED_RANGES["train"][1] - PAINTED, SEED_RANGES["train"][1])
    scenes = [sample_scene(seed, solid_count(seed)) for seed in seeds]
    asked = modifiers_for(PAINTED, PAINTING_SEED)
    path = args.build / "generator" / f"world{data.WORLD}-painted-{PAINTED}.npy"
    if not path.exists():
        np.save(path, paint(args.weights / "generator", scenes, asked, PAINTING_SEED))
    made = [Painting(*parts) for parts in zip(np.load(path), scenes, asked, strict=True)]
    return labeled(made, geometry.GeometryCheck.load(args.weights / "geometry"))

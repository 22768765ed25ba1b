"""What the training of one bundled model takes from another: made once, and kept in the build folder."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contracts.errors import CheckpointError
from contracts.records import Category
from controller.checkpoints import weights_digest
from tabletop import data
from tabletop.flaws import Pair, pair_of
from tabletop.scenes import SEED_RANGES, Scene, sample_scene, solid_count

if TYPE_CHECKING:
    from tabletop.paintings import PaintedSamples

PAINTED = 3_000
"""Pictures by the generator for the defender, and as many others for the judge."""
PAINTING_SEED, JUDGED_PAINTING_SEED = 71, 72
ALL_MODIFIERS, JUDGED_ALL_MODIFIERS = 0.8, 0.5
"""Share of the pictures that are asked for with all modifiers: of those alone the geometry check's word is
all that the defender should say."""

FINISHED = "finished"
"""Marks a generator whose training has come to its end: a paused one is written too, to be looked at."""


def generator_is_finished(args: argparse.Namespace) -> bool:
    """Whether there is a generator whose pictures others may learn from."""
    return (args.build / "generator" / FINISHED).exists()


def fingerprint(folder: Path) -> str:
    """Eight hexadecimal digits of the weights in a folder: what they made is known by it."""
    return weights_digest(folder)[:8]


def bundled_clip(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from transformers import CLIPModel, CLIPTokenizer

    folder = args.weights / "clip"
    if not (folder / "model.safetensors").exists():
        raise CheckpointError(f"there is no CLIP under {folder}; train it first with: legion train clip")
    model = CLIPModel.from_pretrained(folder, dtype="float32", attn_implementation="eager")
    return model, CLIPTokenizer.from_pretrained(folder)


def autoencoder_folder(args: argparse.Namespace) -> Path:
    """Where the trained autoencoder lies. Raises CheckpointError if there is none."""
    folder: Path = args.build / "autoencoder" / "model"
    if not folder.exists():
        raise CheckpointError(
            f"there is no autoencoder under {folder}; train it first with: legion train autoencoder"
        )
    return folder


def trained_autoencoder(args: argparse.Namespace):  # type: ignore[no-untyped-def]
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(autoencoder_folder(args)).eval()


def reconstructed(
    args: argparse.Namespace, split: str, count: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Clean and flawed pictures of a split after the generator's autoencoder, kept in the build folder."""
    from tabletop import autoencoder

    made_by = fingerprint(autoencoder_folder(args))
    path = args.build / "autoencoder" / f"world{data.WORLD}-{split}-{count}-{made_by}.npz"
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
        return list(pool.map(pair_of, range(first + part.start, first + part.stop), chunksize=25))


def paintings(args: argparse.Namespace) -> tuple[PaintedSamples, PaintedSamples]:
    """Pictures by the finished generator for the defender: those that the geometry check can speak of, and
    the others.
    """
    from tabletop.geometry import GeometryCheck
    from tabletop.paintings import Painting, labeled

    pictures, scenes, asked = _painted(args, "train", PAINTING_SEED, ALL_MODIFIERS)
    made = [Painting(*parts) for parts in zip(pictures, scenes, asked, strict=True)]
    return labeled(made, GeometryCheck.load(args.weights / "geometry"))


def judged_paintings(args: argparse.Namespace) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Pictures by the finished generator for the judge (other words, other seeds), and whether the geometry
    check calls any of their solids misshapen. Those of which a solid was not found are left out.
    """
    from tabletop.geometry import GeometryCheck

    pictures, scenes, _ = _painted(args, "judge", JUDGED_PAINTING_SEED, JUDGED_ALL_MODIFIERS)
    check = GeometryCheck.load(args.weights / "geometry")
    masks = check.misshapen(pictures, [scene.shapes for scene in scenes])
    known = [i for i, found in enumerate(masks) if found is not None]
    return pictures[known], np.array([any(m.any() for m in masks[i] or ()) for i in known])


def _painted(
    args: argparse.Namespace, split: str, seed: int, all_modifiers: float
) -> tuple[NDArray[np.uint8], list[Scene], list[tuple[Category, ...]]]:
    """PAINTED pictures, kept in the build folder, with the scenes and the modifiers that were asked for."""
    from tabletop.paintings import modifiers_for, paint

    last = SEED_RANGES[split][1]
    scenes = [sample_scene(s, solid_count(s)) for s in range(last - PAINTED, last)]
    asked = modifiers_for(PAINTED, seed, all_modifiers)
    made_by = fingerprint(args.weights / "generator")
    path = (
        args.build
        / "generator"
        / f"world{data.WORLD}-{split}-painted-{PAINTED}-{all_modifiers}-{made_by}.npy"
    )
    if not path.exists():
        np.save(path, paint(args.weights / "generator", scenes, asked, seed, args.device))
    return np.load(path), scenes, asked

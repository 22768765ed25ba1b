"""The tabletop data set on disk: pairs in shards of fixed seeds, made once, read as plain arrays.

A shard holds SHARD pairs as one `.npz`; a shard that exists is never made again, so making data resumes by
itself.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.errors import InvalidInput
from contracts.records import CATEGORIES, Finding, Image
from tabletop.flaws import Pair, pair_of
from tabletop.scenes import SEED_RANGES, Scene, Solid

SHARD = 500
WORLD = 3
"""Raise it when scenes, renderer or flaws change: older pictures are then not taken for this world's."""
DEFAULT_COUNTS = {"train": 36_000, "validation": 1_000, "test": 2_000, "judge": 24_000}
DEFAULT_FOLDER = Path("build/tabletop/data")


@dataclass(frozen=True, eq=False)
class PairSet:
    """N pairs in memory."""

    clean: NDArray[np.uint8]
    """(N, H, W, 3)"""
    flawed: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    """(N, 3, H, W / 8): bit-packed masks by category; all zero where the category is sound."""
    facts: list[dict[str, object]]
    """Scene and findings of each pair, as written by `_facts`."""

    def __len__(self) -> int:
        return len(self.facts)

    @cached_property
    def flags(self) -> NDArray[np.bool_]:
        """(N, 3) whether the flawed picture of each pair has a flaw of each category."""
        return np.array([[c in f["categories"] for c in CATEGORIES] for f in self.facts])  # type: ignore[operator]

    @cached_property
    def scenes(self) -> list[Scene]:
        return [scene_from_facts(f) for f in self.facts]

    def mask(self, i: int) -> NDArray[np.bool_]:
        """(3, H, W) masks of pair i by category."""
        return np.unpackbits(self.masks[i], axis=-1).astype(bool)

    def findings(self, i: int) -> tuple[Finding, ...]:
        masks = self.mask(i)
        return tuple(
            Finding(masks[CATEGORIES.index(f["category"])], f["phrase"], f["explanation"], f["category"], 1.0)
            for f in self.facts[i]["findings"]  # type: ignore[attr-defined]
        )


def make(
    split: str,
    count: int,
    folder: Path = DEFAULT_FOLDER,
    *,
    size: int = 64,
    processes: int | None = None,
) -> None:
    """Render the first `count` pairs of a split (rounded up to whole shards), in as many processes as asked
    for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = range(-(-count // SHARD))
    missing = [i for i in shards if not _shard_path(folder, split, size, i).exists()]
    jobs = [(split, i, folder, size) for i in missing]
    with ProcessPoolExecutor(processes or os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(_make_shard, jobs), 1):
            print(f"{split}: shard {done} of {len(jobs)}", file=sys.stderr, flush=True)


def load(split: str, count: int | None = None, folder: Path = DEFAULT_FOLDER, size: int = 64) -> PairSet:
    """The first `count` pairs of a split (all that are on disk if None). Raises InvalidInput if there are too
    few.
    """
    shards = list(_existing_shards(folder, split, size))
    if count is not None:
        shards = shards[: -(-count // SHARD)]
    have = len(shards) * SHARD
    if have == 0 or (count is not None and have < count):
        raise InvalidInput(
            f"the tabletop data set has {have} '{split}' pairs of {count or 'any'} under {folder}; "
            f"make them with: legion train data"
        )
    parts = [np.load(path) for path in shards]
    stop = count if count is not None else have
    return PairSet(
        clean=np.concatenate([p["clean"] for p in parts])[:stop],
        flawed=np.concatenate([p["flawed"] for p in parts])[:stop],
        masks=np.concatenate([p["masks"] for p in parts])[:stop],
        facts=[json.loads(line) for p in parts for line in str(p["facts"]).split("\n")][:stop],
    )


def scene_from_facts(facts: dict[str, object]) -> Scene:
    scene = dict(facts["scene"])  # type: ignore[call-overload]
    solids = tuple(Solid(**s) for s in scene.pop("solids"))
    return Scene(
        solids=solids,
        surface=scene["surface"],
        texture_offset=tuple(scene["texture_offset"]),
        light=tuple(scene["light"]),
        wall=scene["wall"],
        seed=scene["seed"],
    )


def stack(images: Sequence[Image]) -> NDArray[np.uint8]:
    return np.stack(list(images)).astype(np.uint8)


def _shard_path(folder: Path, split: str, size: int, index: int) -> Path:
    return folder / f"world{WORLD}-{split}-{size}-{index:04d}.npz"


def _existing_shards(folder: Path, split: str, size: int) -> Iterator[Path]:
    index = 0
    while (path := _shard_path(folder, split, size, index)).exists():
        yield path
        index += 1


def _make_shard(job: tuple[str, int, Path, int]) -> None:
    split, index, folder, size = job
    first = SEED_RANGES[split][0] + index * SHARD
    made = [pair_of(seed, size) for seed in range(first, first + SHARD)]
    path = _shard_path(folder, split, size, index)
    partial = path.with_suffix(f".{os.getpid()}.tmp.npz")
    np.savez(
        partial,
        clean=stack([p.clean for p in made]),
        flawed=stack([p.flawed for p in made]),
        masks=np.stack([_packed_masks(p, size) for p in made]),
        facts="\n".join(json.dumps(_facts(p)) for p in made),
    )
    partial.rename(path)


def _packed_masks(pair: Pair, size: int) -> NDArray[np.uint8]:
    masks = np.zeros((3, size, size), bool)
    for finding in pair.findings:
        masks[CATEGORIES.index(finding.category)] |= finding.mask
    return np.packbits(masks, axis=-1)


def _facts(pair: Pair) -> dict[str, object]:
    return {
        "scene": asdict(pair.scene),
        "categories": sorted({f.category for f in pair.findings}),
        "findings": [
            {"kind": kind, "category": f.category, "phrase": f.phrase, "explanation": f.explanation}
            for kind, f in zip(pair.kinds, pair.findings, strict=True)
        ],
    }

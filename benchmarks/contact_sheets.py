"""The README's pictures: the world clean and flawed, the generator with other modifiers, runs of the loop.

python -m benchmarks.contact_sheets          writes docs/pictures/*.png
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from benchmarks.bench import REPORTING_SEED, Bench, bundled_tools
from contracts.records import CATEGORIES, Category, Image, Run
from controller.regeneration import Case, RegenerationSettings, regenerate
from memory_bank import open_memory_bank
from tabletop import captions
from tabletop.flaws import render_pair
from tabletop.scenes import SEED_RANGES

CELL, LABEL = 128, 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    world().save(args.out / "world.png", optimize=True)
    bench = Bench(10, REPORTING_SEED, bundled_tools())
    modifiers(bench).save(args.out / "modifiers.png", optimize=True)
    loop(bench).save(args.out / "loop.png", optimize=True)


def world() -> PILImage.Image:
    """Renders, the same with a flaw, and where it is."""
    first = SEED_RANGES["test"][0] + 100
    pairs = [render_pair(seed) for seed in range(first, first + 10)]
    marked = [overlay(p.flawed, np.any([f.mask for f in p.findings], axis=0)) for p in pairs]
    rows = {"clean": [p.clean for p in pairs], "flawed": [p.flawed for p in pairs], "truth": marked}
    return sheet(rows)


def modifiers(bench: Bench) -> PILImage.Image:
    """The same seeds with other quality modifiers."""
    variants: dict[str, Sequence[Category]] = {
        "plain": (),
        **{captions.MODIFIERS[c]: (c,) for c in CATEGORIES},
        "all three": CATEGORIES,
    }
    rows = {name: list(bench.paint(wanted)) for name, wanted in variants.items()}
    return sheet(rows)


def loop(bench: Bench) -> PILImage.Image:
    """First round, what the defender saw in it, and what the loop returned."""
    cases = [Case(f"sheet-{i}", p, bench.seed + i) for i, p in enumerate(bench.prompts)]
    with tempfile.TemporaryDirectory() as folder:
        bank = open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store")
        runs = regenerate(cases, bench.tools, bank, RegenerationSettings(rounds=3))
        first = [bank.image(r.rounds[0].image or "") for r in runs]
        best = [bank.image(r.best.image or "") if r.best else f for r, f in zip(runs, first, strict=True)]
    found = [overlay(picture, _found(run)) for picture, run in zip(first, runs, strict=True)]
    return sheet({"first round": first, "findings": found, "returned": best})


def _found(run: Run) -> np.ndarray:
    diagnosis = run.rounds[0].diagnosis
    if diagnosis is None:
        raise RuntimeError("a finished run has a diagnosis in every round")
    return diagnosis.union((64, 64))


def overlay(picture: Image, mask: np.ndarray) -> Image:
    """The picture with the mask in red."""
    red = np.array([255, 0, 60])
    return np.where(mask[..., None], (0.5 * picture + 0.5 * red).astype(np.uint8), picture)


def sheet(rows: dict[str, list[Image]]) -> PILImage.Image:
    """One labeled row of pictures for each entry."""
    columns = max(len(r) for r in rows.values())
    page = PILImage.new("RGB", (LABEL + columns * CELL, len(rows) * CELL), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(17)
    for y, (name, pictures) in enumerate(rows.items()):
        draw.text((10, y * CELL + CELL // 2), name, fill="black", font=font, anchor="lm")
        for x, picture in enumerate(pictures):
            cell = PILImage.fromarray(picture).resize((CELL, CELL), PILImage.Resampling.BICUBIC)
            page.paste(cell, (LABEL + x * CELL, y * CELL))
    return page


if __name__ == "__main__":
    main()

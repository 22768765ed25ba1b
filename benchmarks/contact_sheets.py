"""The README's pictures: the world clean and flawed, the generator with other modifiers, runs of both loops.

python -m benchmarks.contact_sheets                    writes docs/pictures/*.png
python -m benchmarks.contact_sheets --only repairs     writes docs/pictures/repairs.png alone
python -m benchmarks.contact_sheets --only loop --prompts unseen --out out/unseen
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias, get_args

import numpy as np
from PIL import Image as PILImage
from PIL import ImageDraw, ImageFont

from benchmarks.bench import REPORTING_SEED, Bench, Prompts, bundled_tools, loop_settings
from contracts.records import CATEGORIES, Category, Image, Run
from controller.regeneration import Case, regenerate
from memory_bank import open_memory_bank
from tabletop import captions
from tabletop.flaws import pair_of
from tabletop.scenes import SEED_RANGES

Font: TypeAlias = ImageFont.ImageFont | ImageFont.FreeTypeFont
CELL, LABEL = 128, 150
FOUND, ALLOWED = (255, 0, 60), (0, 90, 255)
HEADING = 46
LINE = 15
"""Height of a line of a prompt above its column."""
GAP = 6
REPAIRS = {
    "damaged": "the input",
    "findings": "what LEGION marks",
    "may change": "the allowed support",
    "repaired": "what the gate kept",
    "true render": "never shown to it",
}
"""Columns of the repairs' sheet, and what stands under each heading."""
REPAIRED_PAIRS = 6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--only", choices=("world", "modifiers", "loop", "repairs"), help="one of them")
    parser.add_argument(
        "--prompts", choices=get_args(Prompts), default="one-solid", help="of modifiers and loop"
    )
    parser.add_argument("--pairs", type=int, default=REPAIRED_PAIRS, help="rows of the repairs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    @cache
    def bench() -> Bench:
        return Bench(10, REPORTING_SEED, bundled_tools(), args.prompts)

    sheets: dict[str, Callable[[], PILImage.Image]] = {
        "world": world,
        "modifiers": lambda: modifiers(bench()),
        "loop": lambda: loop(bench()),
        "repairs": lambda: repairs(args.pairs),
    }
    for name, draw in sheets.items():
        if args.only in (None, name):
            draw().save(args.out / f"{name}.png", optimize=True)


def world() -> PILImage.Image:
    """Renders, the same with a flaw, and where it is."""
    first = SEED_RANGES["test"][0] + 100
    pairs = [pair_of(seed) for seed in range(first, first + 10)]
    marked = [overlay(p.flawed, np.any([f.mask for f in p.findings], axis=0)) for p in pairs]
    rows = {"clean": [p.clean for p in pairs], "flawed": [p.flawed for p in pairs], "truth": marked}
    return sheet(rows, [captions.scene_caption(pair.scene) for pair in pairs])


def modifiers(bench: Bench) -> PILImage.Image:
    """The same seeds with other quality modifiers."""
    variants: dict[str, Sequence[Category]] = {
        "plain": (),
        **{captions.MODIFIERS[c]: (c,) for c in CATEGORIES},
        "all three": CATEGORIES,
    }
    rows = {name: list(bench.paint(wanted)) for name, wanted in variants.items()}
    return sheet(rows, bench.prompts)


def loop(bench: Bench) -> PILImage.Image:
    """First round, what the defender saw in it, and what the loop returned."""
    cases = [Case(f"sheet-{i}", p, bench.seed + i) for i, p in enumerate(bench.prompts)]
    with tempfile.TemporaryDirectory() as folder:
        bank = open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store")
        runs = regenerate(cases, bench.tools, bank, loop_settings())
        first = [bank.image(r.rounds[0].image or "") for r in runs]
        best = [bank.image(r.best.image or "") if r.best else f for r, f in zip(runs, first, strict=True)]
    found = [overlay(picture, _found(run)) for picture, run in zip(first, runs, strict=True)]
    return sheet({"first round": first, "findings": found, "returned": best}, bench.prompts)


def repairs(count: int) -> PILImage.Image:
    """Held-out pairs as they come, the first of the test split that the other sheets do not show: damaged,
    what was found, what was allowed to change, what the loop returned, and the truth."""
    from benchmarks.inpainting import make_world, prompt_of
    from controller.inpainting import InpaintingCase, inpaint

    first = SEED_RANGES["test"][0] + 120
    seeds = range(first, first + count)
    pairs = {seed: pair_of(seed) for seed in seeds}
    made = make_world("tabletop", prompts=True)
    cases = [
        InpaintingCase(f"sheet-{seed}", pair.flawed, prompt_of(pair), seed) for seed, pair in pairs.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        bank = open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store")
        runs = inpaint(cases, made.tools, bank, made.settings)
        results = [bank.image(run.result or "") for run in runs]
    rows = {
        f"{number}. {word(run)}": [
            pair.flawed,
            overlay(pair.flawed, _found(run)),
            overlay(pair.flawed, _support(run), ALLOWED),
            result,
            pair.clean,
        ]
        for number, (pair, run, result) in enumerate(zip(pairs.values(), runs, results, strict=True), start=1)
    }
    return headed(REPAIRS, rows)


def word(run: Run) -> str:
    """What became of a picture's regions, in two words or three."""
    decided = [repair for item in run.rounds for repair in item.repairs or ()]
    if not decided:
        return "nothing found"
    kept = sum(bool(repair.accepted) for repair in decided)
    return "rolled back" if not kept else "repaired"


def _support(run: Run) -> np.ndarray:
    return np.zeros((64, 64), bool) if run.support is None else run.support


def headed(columns: Mapping[str, str], rows: Mapping[str, Sequence[Image]]) -> PILImage.Image:
    """A page with a heading and a line below it over each column, and a name before each row."""
    cell = 2 * 64
    size = LABEL + len(columns) * (cell + GAP), HEADING + len(rows) * (cell + GAP)
    page = PILImage.new("RGB", size, "white")
    draw, large, small = ImageDraw.Draw(page), ImageFont.load_default(16), ImageFont.load_default(12)
    for x, (heading, below) in enumerate(columns.items()):
        center = LABEL + x * (cell + GAP) + cell // 2
        draw.text((center, 13), heading, fill="black", font=large, anchor="mm")
        draw.text((center, 32), below, fill="#555555", font=small, anchor="mm")
    for y, (name, pictures) in enumerate(rows.items()):
        top = HEADING + y * (cell + GAP)
        draw.text((8, top + cell // 2), name, fill="black", font=large, anchor="lm")
        for x, picture in enumerate(pictures):
            shown = PILImage.fromarray(picture).resize((cell, cell), PILImage.Resampling.BICUBIC)
            page.paste(shown, (LABEL + x * (cell + GAP), top))
    return page


def _found(run: Run) -> np.ndarray:
    diagnosis = run.rounds[0].diagnosis
    if diagnosis is None:
        raise RuntimeError("a finished run has a diagnosis in every round")
    return diagnosis.union((64, 64))


def overlay(picture: Image, mask: np.ndarray, color: tuple[int, int, int] = FOUND) -> Image:
    """The picture with the mask in a color."""
    mixed = 0.5 * picture + 0.5 * np.array(color)
    return np.where(mask[..., None], mixed.astype(np.uint8), picture)


def sheet(rows: Mapping[str, Sequence[Image]], prompts: Sequence[str]) -> PILImage.Image:
    """One labeled row of pictures for each entry, and above each column what was asked for."""
    small, large = ImageFont.load_default(12), ImageFont.load_default(17)
    heads = [wrapped(prompt, small, CELL - 2 * GAP) for prompt in prompts]
    top = LINE * max(map(len, heads)) + 2 * GAP
    page = PILImage.new("RGB", (LABEL + len(prompts) * CELL, top + len(rows) * CELL), "white")
    draw = ImageDraw.Draw(page)
    for x, lines in enumerate(heads):
        for below, line in enumerate(reversed(lines)):  # the last line is next to its column
            place = (LABEL + x * CELL + CELL // 2, top - GAP - below * LINE)
            draw.text(place, line, fill="black", font=small, anchor="md")
    for y, (name, pictures) in enumerate(rows.items()):
        draw.text((10, top + y * CELL + CELL // 2), name, fill="black", font=large, anchor="lm")
        for x, picture in enumerate(pictures):
            cell = PILImage.fromarray(picture).resize((CELL, CELL), PILImage.Resampling.BICUBIC)
            page.paste(cell, (LABEL + x * CELL, top + y * CELL))
    return page


def wrapped(text: str, font: Font, width: int) -> list[str]:
    """Lines of whole words, none wider than `width` pixels where its words allow that."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


if __name__ == "__main__":
    main()

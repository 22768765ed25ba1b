"""A contact sheet of every bundled model, for its card: what it does to scenes that no training saw.

    python -m benchmarks.model_sheets                     writes docs/pictures/models/*.jpg
    python -m benchmarks.model_sheets --only judge

Scenes are the first of the validation split, as they come; the two scorers and the judge choose among
pictures, and their sheets show both ends of what they were given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from benchmarks.bench import WEIGHTS, Bench, bundled_tools
from benchmarks.contact_sheets import ALLOWED, overlay, sheet
from contracts.protocols import Scorer
from contracts.records import CATEGORIES, Diagnosis, GenerationRequest, Image, InpaintRequest
from contracts.seeds import derive_seed
from controller.generators.diffusers_inpainting import DiffusersInpainter
from controller.scorers.clip import load_clip
from defender.legion_defender import LegionDefender
from tabletop import autoencoder, captions, geometry, inpainter, judge
from tabletop.flaws import Pair, pair_of
from tabletop.scenes import SEED_RANGES

COLUMNS = 8
CHOSEN_FROM = 64
"""Pictures among which a scorer and the judge choose."""
SEED = 90
"""Of the prompts and pictures that the generator paints for these sheets."""
HOLE = 128


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/pictures/models"))
    parser.add_argument("--only", choices=tuple(SHEETS), help="one model")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, draw in SHEETS.items():
        if args.only in (None, name):
            draw().save(args.out / f"{name}.jpg", quality=88, subsampling=0, optimize=True)


def clip_sheet() -> PILImage.Image:
    """For each prompt the renders that the tiny CLIP finds nearest to it and farthest from it."""
    pairs = scenes(CHOSEN_FROM)
    prompts = [captions.scene_caption(pair.scene) for pair in pairs[:COLUMNS]]
    pictures, scorer = [pair.clean for pair in pairs], load_clip(WEIGHTS / "clip", "clip")
    columns = [best_first(scorer, pictures, prompt) for prompt in prompts]
    places = {"nearest": 0, "second": 1, "third": 2, "farthest": -1}
    return sheet({name: [c[place] for c in columns] for name, place in places.items()}, prompts)


def scorer_sheet(name: str) -> PILImage.Image:
    """For each prompt the paintings of it that a preference scorer likes most and least."""
    pairs = scenes(COLUMNS)
    prompts = [captions.scene_caption(pair.scene) for pair in pairs]
    scorer, generator = load_clip(WEIGHTS / name, name), bundled_tools().generator
    ranks: list[list[Image]] = []
    for number, prompt in enumerate(prompts):
        seeds = [derive_seed(SEED + number, draw) for draw in range(CHOSEN_FROM // COLUMNS)]
        painted = generator.generate([GenerationRequest(prompt, seed) for seed in seeds])
        ranks.append(best_first(scorer, painted, prompt))
    places = {"most liked": 0, "second": 1, "middle": len(ranks[0]) // 2, "least liked": -1}
    return sheet({name: [rank[place] for rank in ranks] for name, place in places.items()}, prompts)


def generator_sheet() -> PILImage.Image:
    """Plain prompts, and the same with all quality words, two draws each."""
    bench = painting_bench(COLUMNS)
    rows = {
        f"{name}, {draw}": list(bench.paint(wanted, draw))
        for name, wanted in (("plain", ()), ("all words", CATEGORIES))
        for draw in (1, 2)
    }
    return sheet(rows, bench.prompts)


def autoencoder_sheet() -> PILImage.Image:
    """Renders, after one trip through the latents, and where they differ."""
    pairs = scenes(COLUMNS)
    model = autoencoder.AutoencoderKL.from_pretrained(WEIGHTS / "generator" / "vae").eval()
    shown = [pair.flawed for pair in pairs]
    back = list(autoencoder.reconstruct(model, np.stack(shown)))
    apart = [
        np.abs(a.astype(int) - b).clip(0, 63).astype(np.uint8) * 4 for a, b in zip(shown, back, strict=True)
    ]
    rows = {"render": shown, "decoded": back, "difference x 4": apart}
    return sheet(rows, [captions.scene_caption(pair.scene) for pair in pairs])


def inpainter_sheet() -> PILImage.Image:
    """Flawed pictures, the hole around all flaws, how it is filled, and the truth."""
    pairs = scenes(COLUMNS)
    rng = np.random.default_rng(0)
    flaws = [Diagnosis(pair.findings).union((64, 64)) for pair in pairs]
    holes = [inpainter.draw_hole(flaw, 64, rng) for flaw in flaws]
    prompts = [captions.scene_caption(pair.scene) for pair in pairs]
    asked = [captions.with_modifiers(prompt, CATEGORIES) for prompt in prompts]
    painter = DiffusersInpainter.load(WEIGHTS / "inpainter", batch_size=COLUMNS, exact=False)
    filled = painter.inpaint(
        [
            InpaintRequest(pair.flawed, hole, prompt, seed=i)
            for i, (pair, hole, prompt) in enumerate(zip(pairs, holes, asked, strict=True))
        ]
    )
    hidden = [
        np.where(h[..., None], HOLE, p.flawed).astype(np.uint8) for p, h in zip(pairs, holes, strict=True)
    ]
    mended = [np.where(h[..., None], f, p.flawed) for p, h, f in zip(pairs, holes, filled, strict=True)]
    rows = {
        "flawed": [pair.flawed for pair in pairs],
        "the hole": hidden,
        "filled": mended,
        "true render": [pair.clean for pair in pairs],
    }
    return sheet(rows, prompts)


def defender_sheet() -> PILImage.Image:
    """Flawed renders, what is wrong with them, and what the defender marks; and clean ones with its marks."""
    pairs = scenes(COLUMNS)
    defender = LegionDefender.load(WEIGHTS / "defender")
    flawed, clean = [pair.flawed for pair in pairs], [pair.clean for pair in pairs]
    truth = [overlay(p.flawed, Diagnosis(p.findings).union((64, 64))) for p in pairs]
    rows = {
        "flawed": flawed,
        "the truth": truth,
        "marked": marked(flawed, defender.diagnose(flawed)),
        "clean, marked": marked(clean, defender.diagnose(clean)),
    }
    return sheet(rows, [captions.scene_caption(pair.scene) for pair in pairs])


def judge_sheet() -> PILImage.Image:
    """The paintings of plain prompts in which the judge is surest of each category of flaw, and of none."""
    bench = painting_bench(CHOSEN_FROM)
    painted = bench.paint()
    flaws = judge.judge(judge.load(WEIGHTS / "judge"), painted).flaws
    rows = {
        f"surely {category}": list(painted[np.argsort(flaws[:, k])[::-1][:COLUMNS]])
        for k, category in enumerate(CATEGORIES)
    }
    rows["surely sound"] = list(painted[np.argsort(flaws.max(axis=1))[:COLUMNS]])
    return sheet(rows, [""] * COLUMNS)


def geometry_sheet() -> PILImage.Image:
    """Paintings asked for with all quality words, and the solids that resemble no clean render."""
    bench = painting_bench(COLUMNS)
    painted = bench.paint(CATEGORIES)
    check = geometry.GeometryCheck.load(WEIGHTS / "geometry")
    cut = geometry.cut(check.cutter, painted).max(axis=1) > 0.5
    masks = check.misshapen(painted, [scene.shapes for scene in bench.scenes])
    wrong = [np.any(found, axis=0) if found else np.zeros((64, 64), bool) for found in masks]
    rows = {
        "painted": list(painted),
        "cut out": [overlay(p, c, ALLOWED) for p, c in zip(painted, cut, strict=True)],
        "misshapen": [overlay(p, w) for p, w in zip(painted, wrong, strict=True)],
    }
    return sheet(rows, bench.prompts)


def scenes(count: int) -> list[Pair]:
    """The first of the validation split."""
    first = SEED_RANGES["validation"][0]
    return [pair_of(seed) for seed in range(first, first + count)]


def best_first(scorer: Scorer, pictures: Sequence[Image], prompt: str) -> list[Image]:
    """The pictures by their score for a prompt."""
    values = [score.value for score in scorer.score(pictures, [prompt] * len(pictures))]
    return [pictures[i] for i in np.argsort(values)[::-1]]


def painting_bench(count: int) -> Bench:
    """The bundled generator and so many prompts."""
    return Bench(count, SEED, bundled_tools())


def marked(pictures: list[Image], diagnoses: list[Diagnosis]) -> list[NDArray[np.uint8]]:
    """Pictures with all findings in color."""
    unions = [diagnosis.union((64, 64)) for diagnosis in diagnoses]
    return [overlay(picture, union) for picture, union in zip(pictures, unions, strict=True)]


SHEETS: dict[str, Callable[[], PILImage.Image]] = {
    "clip": clip_sheet,
    "scorer": partial(scorer_sheet, "scorer"),
    "reporter": partial(scorer_sheet, "reporter"),
    "autoencoder": autoencoder_sheet,
    "generator": generator_sheet,
    "inpainter": inpainter_sheet,
    "geometry": geometry_sheet,
    "judge": judge_sheet,
    "defender": defender_sheet,
}


if __name__ == "__main__":
    main()

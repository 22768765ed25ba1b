"""Is the embedded world right? Bundled generator, held-out prompts, the independent judge and the geometry
check, 95 % bootstrap intervals over prompts.

    python -m benchmarks.world            the README's table: 256 prompts, minutes on two cores
    python -m benchmarks.world --n 32     a quick look

All arms share prompts and seeds, so a modifier's effect is a difference between pictures of one seed. The
prompts name every combination of one solid that the world has, and were all trained on; what is held out are
the seeds of the pictures. The last rows are about renders, of which the truth is known: scenes of the split
that no training saw, after the generator's autoencoder.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from transformers import CLIPModel, CLIPTokenizer

from benchmarks.bench import WEIGHTS, Bench, Judged, Row, arguments, bundled_tools, fewer, show
from contracts.intervals import bootstrap, ratio, resample
from contracts.records import CATEGORIES
from flows import assemble
from tabletop import autoencoder, captions, data, judge, preference
from tabletop.geometry import GeometryCheck

SURE = 0.9
"""The judge is sure of a flaw from this probability on, and of none from the opposite one down."""

JUDGE_BARS = {
    "accuracy shape": ">= 96 %",
    "accuracy color": ">= 98 %",
    **{f"AUC {category}": ">= 97 %" for category in CATEGORIES},
}
RENDERED = 1_000
"""Scenes with a clean and a flawed render each."""


def one_solid(bench: Bench) -> list[Row]:
    """What is painted, and what modifiers do to it."""
    plain_pictures, sound_pictures = bench.paint(), bench.paint(CATEGORIES)
    plain, everything = bench.judged(plain_pictures), bench.judged(sound_pictures)
    rows = [
        Row("object right, all modifiers", ">= 99 %", bootstrap(everything.object_right)),
        Row("color right, all modifiers", ">= 99 %", bootstrap(everything.color_right)),
        Row("object right, plain prompts", "", bootstrap(plain.object_right)),
        Row("color right, plain prompts", "", bootstrap(plain.color_right)),
        Row("flawed, plain prompts", "35-70 %", bootstrap(plain.flawed)),
        Row("flawed, all modifiers", "<= 20 %", bootstrap(everything.flawed)),
        *modifier_rows(bench, plain),
        defender_row(bench, np.concatenate([plain_pictures, sound_pictures])),
    ]
    check = GeometryCheck.load(WEIGHTS / "geometry")
    for name, pictures in (("plain prompts", plain_pictures), ("all modifiers", sound_pictures)):
        rows.append(
            Row(f"resembles no clean render, {name}", "", bootstrap(_misshapen(check, bench, pictures)))
        )
    return rows


def modifier_rows(bench: Bench, plain: Judged) -> list[Row]:
    """For each modifier: how far it lowers its own category's flaws, and what it does to the others."""
    rows = []
    for category in CATEGORIES:
        single = bench.judged(bench.paint([category]))
        word = captions.MODIFIERS[category]
        removed = fewer(single, plain, category)
        rows.append(
            Row(f'{category} flaws that "{word}" removes', "> 0", bootstrap(removed), "points"),
        )
        had = plain.flaws[:, CATEGORIES.index(category)]
        rows.append(Row("the same, of those there were", ">= 60 %", resample(ratio(removed, had), len(had))))
        for other in CATEGORIES:
            if other != category:
                change = bootstrap(-fewer(single, plain, other))
                rows.append(Row(f'change of {other} flaws by "{word}"', "at most 8", change, "points"))
    return rows


def defender_row(bench: Bench, pictures: NDArray[np.uint8]) -> Row:
    """How often the defender finds something exactly where the judge is sure that there is something."""
    surest = bench.flaw_probability(pictures)
    sure = np.abs(surest - 0.5) > SURE - 0.5
    # The loop's defender names artifacts from a lower probability on; this is about `legion diagnose`.
    diagnoses = assemble.defender("tabletop").diagnose(list(pictures[sure]))
    found = np.array([bool(diagnosis.findings) for diagnosis in diagnoses])
    claim = f"defender agrees with the judge where that is sure ({sure.sum()} of {len(sure)} pictures)"
    return Row(claim, ">= 90 %", bootstrap(found == (surest[sure] > 0.5)))


def two_solids(bench: Bench) -> list[Row]:
    """Whether each color goes with its shape."""
    both = bench.judged(bench.paint(CATEGORIES))
    return [
        Row("two solids: both shapes right", "", bootstrap(both.object_right)),
        Row("two solids: shapes and colors bound", ">= 80 %", bootstrap(both.right)),
    ]


def renders(count: int) -> list[Row]:
    """The judge and the preference scorer on renders, whose truth is known."""
    with redirect_stdout(sys.stderr):  # its progress
        data.make("test", count, data.DEFAULT_FOLDER)
    pairs = data.load("test", count)
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "generator" / "vae", torch_dtype=torch.float32).eval()
    pictures = (autoencoder.reconstruct(vae, pairs.clean), autoencoder.reconstruct(vae, pairs.flawed))
    rows = [
        Row(f"judge on renders: {name}", JUDGE_BARS.get(name, ""), figure)
        for name, figure in judge.evaluate(judge.load(WEIGHTS / "judge"), pairs, pictures).items()
    ]
    model = CLIPModel.from_pretrained(WEIGHTS / "scorer", dtype="float32", attn_implementation="eager").eval()
    tokenizer = CLIPTokenizer.from_pretrained(WEIGHTS / "scorer")
    figures = preference.evaluate(model, tokenizer, pairs, pictures)
    return rows + [Row(f"scorer on renders: {name}", ">= 97 %", figure) for name, figure in figures.items()]


def _misshapen(check: GeometryCheck, bench: Bench, pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    shapes = [[solid.shape for solid in scene.solids] for scene in bench.scenes]
    fits = check.fits(pictures, shapes)
    return np.array([not check.sound(found, names) for found, names in zip(fits, shapes, strict=True)])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rendered", type=int, default=RENDERED, help="scenes of known truth; 0 for none")
    args = parser.parse_args()
    tools = bundled_tools()
    rows = one_solid(Bench(args.n, args.seed, tools))
    rows += two_solids(Bench(args.n, args.seed, tools, solids=2))
    show(rows + (renders(args.rendered) if args.rendered else []), args.json)


if __name__ == "__main__":
    main()

"""Is the embedded world right? Bundled generator, the independent judge and the geometry check, 95 %
bootstrap intervals over prompts.

    python -m benchmarks.world                         the README's tables: twice 256 prompts, a quarter of an
                                                       hour on two cores
    python -m benchmarks.world --n 32                  a quick look
    python -m benchmarks.world --prompts unseen        one kind of prompts

All arms share prompts and seeds, so a modifier's effect is a difference between pictures of one seed. There
are two kinds of prompts. Those of one solid are every combination that the world has, and were all trained
on: what is new are the seeds of the pictures. Those of two solids are nobody's training caption. The second
table is about renders, of which the truth is known: scenes of the split that no training saw, after the
generator's autoencoder.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from transformers import CLIPModel, CLIPTokenizer

from benchmarks.bench import (
    HEADINGS,
    WEIGHTS,
    Bench,
    Judged,
    Row,
    add_prompts,
    arguments,
    bundled_tools,
    fewer,
    show,
    side_by_side,
    write,
)
from contracts.intervals import bootstrap, ratio, resample
from contracts.records import CATEGORIES
from flows import assemble
from tabletop import autoencoder, captions, data, judge, preference

SURE = 0.9
"""The judge is sure of a flaw from this probability on, and of none from the opposite one down."""

JUDGE_BARS = {
    "accuracy shape": ">= 96 %",
    "accuracy color": ">= 98 %",
    **{f"AUC {category}": ">= 97 %" for category in CATEGORIES},
}
RENDERED = 1_000
"""Scenes with a clean and a flawed render each."""


def painted(bench: Bench) -> list[Row]:
    """What is painted, and what modifiers do to it."""
    plain_pictures, sound_pictures = bench.paint(), bench.paint(CATEGORIES)
    plain, everything = bench.judged(plain_pictures), bench.judged(sound_pictures)
    rows = [
        Row("object right, all modifiers", ">= 99 %", bootstrap(everything.object_right)),
        Row("color right, all modifiers", ">= 99 %", bootstrap(everything.color_right)),
        Row("shapes and colors bound, all modifiers", ">= 80 %", bootstrap(everything.right)),
        Row("object right, plain prompts", "", bootstrap(plain.object_right)),
        Row("color right, plain prompts", "", bootstrap(plain.color_right)),
        Row("flawed, plain prompts", "35-70 %", bootstrap(plain.flawed)),
        Row("flawed, all modifiers", "<= 20 %", bootstrap(everything.flawed)),
        *modifier_rows(bench, plain),
        *defender_rows(bench, np.concatenate([plain_pictures, sound_pictures])),
    ]
    for name, pictures in (("plain prompts", plain_pictures), ("all modifiers", sound_pictures)):
        rows.append(Row(f"resembles no clean render, {name}", "", bootstrap(bench.misshapen(pictures))))
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


def defender_rows(bench: Bench, pictures: NDArray[np.uint8]) -> list[Row]:
    """How often the defender finds something exactly where the judge is sure that there is something."""
    surest = bench.flaw_probability(pictures)
    sure = np.abs(surest - 0.5) > SURE - 0.5
    # The loop's defender names artifacts from a lower probability on; this is about `legion diagnose`.
    diagnoses = assemble.defender("tabletop").diagnose(list(pictures[sure]))
    found = np.array([bool(diagnosis.findings) for diagnosis in diagnoses])
    agrees = bootstrap(found == (surest[sure] > 0.5))
    return [
        Row("pictures, plain and with all modifiers, of which the judge is sure", "", bootstrap(sure)),
        Row("of these the defender agrees with it", ">= 90 %", agrees),
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


def main() -> None:
    parser = arguments(__doc__)
    add_prompts(parser)
    parser.add_argument("--rendered", type=int, default=RENDERED, help="scenes of known truth; 0 for none")
    args = parser.parse_args()
    tools = bundled_tools()
    found = {kind: painted(Bench(args.n, args.seed, tools, kind)) for kind in args.prompts}
    print(side_by_side({HEADINGS[kind]: rows for kind, rows in found.items()}), flush=True)
    if args.rendered:
        found["renders"] = renders(args.rendered)
        print()
        show(found["renders"], None)
    write(args.json, found)


if __name__ == "__main__":
    main()

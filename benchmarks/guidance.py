"""How guidance and steps move flaws and fidelity: what the default profile's values were chosen by.

    python -m benchmarks.guidance                                     of the bundled generator
    python -m benchmarks.guidance --scales 2.5 --steps 8 12 16 24     sampling steps
    python -m benchmarks.guidance --generator build/w/generator       another one

The prompts and seeds are for choosing; no figure of them is reported.
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from benchmarks.bench import HEADINGS, Bench, add_prompts, bundled_tools
from contracts.intervals import bootstrap
from contracts.records import CATEGORIES
from tabletop.generator import DEFAULTS

TUNING_SEED = 101
"""Never used for a reported figure."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=96, help="prompts")
    parser.add_argument("--seed", type=int, default=TUNING_SEED, help="of prompts and pictures")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 1.5, 2.0, 2.5, 3.0])
    parser.add_argument("--steps", type=int, nargs="+", default=[DEFAULTS["num_inference_steps"]])
    parser.add_argument("--generator", type=Path, help="a pipeline folder (default: the bundled one)")
    add_prompts(parser)
    args = parser.parse_args()
    columns = ("flawed, plain", "all modifiers", "no clean render, all modifiers", "right, plain", "all")
    print(f"| prompts | guidance | steps | {' | '.join(columns)} |\n{'| --- ' * (3 + len(columns))}|")
    for prompts, scale, steps in product(args.prompts, args.scales, args.steps):
        bench = Bench(args.n, args.seed, bundled_tools(scale, steps, args.generator), prompts)
        pictures = bench.paint(CATEGORIES)
        plain, full = bench.judged(bench.paint()), bench.judged(pictures)
        measured = (plain.flawed, full.flawed, bench.misshapen(pictures), plain.right, full.right)
        cells = [HEADINGS[prompts], str(scale), str(steps), *(bootstrap(m).percent() for m in measured)]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

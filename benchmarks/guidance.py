"""How guidance moves flaws and fidelity: what the default profile's value was chosen by, on tuning seeds.

python -m benchmarks.guidance
"""

from __future__ import annotations

import argparse

from benchmarks.bench import Bench, bundled_tools
from contracts.intervals import bootstrap
from contracts.records import CATEGORIES

TUNING_SEED = 101
"""Never used for a reported figure."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=96, help="prompts")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0, 1.5, 2.0, 2.5, 3.0])
    args = parser.parse_args()
    print(
        "| guidance | flawed, plain | flawed, all modifiers | object and color right, plain | all modifiers |"
    )
    print("| --- | --- | --- | --- | --- |")
    for scale in args.scales:
        bench = Bench(args.n, TUNING_SEED, bundled_tools(scale))
        plain, full = bench.judged(bench.paint()), bench.judged(bench.paint(CATEGORIES))
        cells = [plain.flawed, full.flawed, plain.right, full.right]
        print(f"| {scale} | " + " | ".join(bootstrap(c).percent() for c in cells) + " |", flush=True)


if __name__ == "__main__":
    main()

"""How many clean-and-flawed pairs one core renders in a second, of one solid or two as in the data set.

python -m benchmarks.renderer
"""

from __future__ import annotations

import argparse
import time

from tabletop.flaws import pair_of
from tabletop.scenes import SEED_RANGES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=100)
    args = parser.parse_args()
    first = SEED_RANGES["test"][0]
    print("| size | pairs/s per core |\n| --- | --- |")
    for size in (64, 128):
        pair_of(first, size)
        start = time.process_time()
        for seed in range(first, first + args.pairs):
            pair_of(seed, size)
        print(f"| {size} px | {args.pairs / (time.process_time() - start):.1f} |")


if __name__ == "__main__":
    main()

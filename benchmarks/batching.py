"""How much faster a benchmark gets through its prompts in batches than one by one, side by side.

    python -m benchmarks.batching

The same prompts, arms and models, with batches of the profile's size and with batches of one (painter,
defender and scorers are all handed one picture at a time), turn by turn, so that whatever else the machine
does slows both alike. Each turn has a memory bank of its own and paints anew.
The bar is twice the prompts per second of wall time; the exit code is 1 below it. Processor seconds are told
too: on a busy machine only they are the program's own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

from contracts.intervals import Interval, ratio, resample
from flows.benchmark import arms, running
from flows.benchmark.cases import Case, make_cases
from flows.benchmark.prompts import TABLETOP, read_prompts
from flows.benchmark.tools import Toolbox
from memory_bank import open_memory_bank

ARMS = ("one-shot", "best-of-n", "rewriting", "regeneration")
BUDGET = 3
BAR = 2.0
"""Times as many prompts per second, by the mean over all turns."""


class Turn(NamedTuple):
    """What some prompts took."""

    wall: float
    processor: float


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=16, help="prompts of a turn")
    parser.add_argument("--turns", type=int, default=3, help="of each kind")
    asked = parser.parse_args()
    cases = make_cases(read_prompts(TABLETOP, asked.n * asked.turns), 1)
    boxes = {"batches": toolbox(), "one by one": toolbox(batch_size=1)}
    taken: dict[str, list[Turn]] = {name: [] for name in boxes}
    for number in range(asked.turns):
        part = cases[number * asked.n : (number + 1) * asked.n]
        for name, box in boxes.items():
            taken[name].append(_turn(box, part))
    print("| prompts per second | wall | processor |\n| --- | --- | --- |")
    for name, turns in taken.items():
        speeds = (asked.n * len(turns) / sum(getattr(t, clock) for t in turns) for clock in Turn._fields)
        print(f"| {name} | {' | '.join(f'{speed:.3f}' for speed in speeds)} |")
    gains = {clock: _gain(taken, clock) for clock in Turn._fields}
    told = (f"{gain.mean:.1f} [{gain.low:.1f}, {gain.high:.1f}]" for gain in gains.values())
    print(f"| times as fast (bar: >= {BAR:g}, wall) | {' | '.join(told)} |")
    return int(gains["wall"].mean < BAR)


def toolbox(batch_size: int | None = None) -> Toolbox:
    """The bundled models, loaded; steps hand `batch_size` pictures to every model if one is given, and those
    of the profile otherwise."""
    box = Toolbox(TABLETOP, running.open_bank(), BUDGET)
    if batch_size is not None:
        generator = box.profile.generator.model_copy(update={"batch_size": batch_size})
        box.profile = box.profile.model_copy(update={"generator": generator})
    for one in arms.chosen(ARMS):
        for part in one.needs:
            getattr(box, part)
    return box


def _turn(box: Toolbox, cases: Sequence[Case]) -> Turn:
    with tempfile.TemporaryDirectory() as folder:
        fresh = box.for_share(open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store"))
        wall, processor = time.perf_counter(), time.process_time()
        for one in arms.chosen(ARMS):
            one.work(fresh, cases)
        return Turn(time.perf_counter() - wall, time.process_time() - processor)


def _gain(taken: dict[str, list[Turn]], clock: str) -> Interval:
    """How many times as fast batches are. Turns are paired."""
    fast, slow = ([getattr(turn, clock) for turn in taken[name]] for name in ("batches", "one by one"))
    return resample(ratio(slow, fast), len(fast))


if __name__ == "__main__":
    raise SystemExit(main())

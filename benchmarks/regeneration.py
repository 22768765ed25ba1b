"""Does the loop help? Bundled models, the independent judge, 95 % bootstrap intervals over prompts.

    python -m benchmarks.regeneration                     the README's table: twice 256 prompts, a quarter of
                                                          an hour on two cores
    python -m benchmarks.regeneration --n 32              a quick look
    python -m benchmarks.regeneration --prompts unseen    one kind of prompts

Prompts are of two kinds, as in `benchmarks.world`: of one solid, all of them training captions, with new
seeds; and of two solids, which no training had.

Four arms share prompts and seeds: the first round (one plain picture); the loop; drawing again, which paints
as many pictures as the loop did for that prompt, with new seeds and the plain prompt, and keeps the one with
the best selection score; and the same with as many pictures as the loop has rounds. None sees the judge.
Judge and defender both learned from the geometry check which paintings are misshapen, so they may share its
mistakes; what the check itself says of each arm is in the table, too. It is no classifier and learned from
no painting.
"""

from __future__ import annotations

import tempfile

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import (
    HEADINGS,
    Bench,
    Row,
    add_prompts,
    arguments,
    bundled_tools,
    fewer,
    loop_settings,
    side_by_side,
    write,
)
from contracts.intervals import bootstrap, ratio, resample
from contracts.protocols import Scorer
from controller.regeneration import Case, regenerate
from memory_bank import open_memory_bank


def loop(bench: Bench, rounds: int) -> list[Row]:
    """The regeneration loop against its own first round and against drawing again."""
    settings = loop_settings(rounds)
    cases = [Case(f"bench-{i}", p, bench.seed + i) for i, p in enumerate(bench.prompts)]
    with tempfile.TemporaryDirectory() as folder:
        bank = open_memory_bank(f"sqlite:///{folder}/bank.sqlite3", f"{folder}/store")
        runs = regenerate(cases, bench.tools, bank, settings)
        first = np.stack([bank.image(_digest(r.rounds[0].image)) for r in runs])
        best = np.stack([bank.image(_digest(r.best.image if r.best else None)) for r in runs])
    used = np.array([len(r.rounds) for r in runs])
    draws = [first, *(bench.paint(draw=1_000 + d) for d in range(1, rounds))]
    scores = np.array([_values(bench.tools.selection_scorer, d, bench.prompts) for d in draws])
    limited = np.where(np.arange(rounds)[:, None] < used[None], scores, -np.inf)
    redrawn, redrawn_full = (
        np.stack(draws)[s.argmax(axis=0), np.arange(len(runs))] for s in (limited, scores)
    )
    before, after, again, again_full = (bench.judged(p) for p in (first, best, redrawn, redrawn_full))
    left = ratio(after.flawed, before.flawed)
    rows = [
        Row("flawed, first round", "", bootstrap(before.flawed)),
        Row("flawed, returned by the loop", "", bootstrap(after.flawed)),
        Row("flawed, returned, for each flawed first one", "<= 35 %", resample(left, len(runs))),
        Row("flawed, redrawn as often as the loop painted", "", bootstrap(again.flawed)),
        Row(f"flawed, redrawn {rounds} times", "", bootstrap(again_full.flawed)),
        Row("fewer flawed than the first round", "> 0", bootstrap(fewer(after, before)), "points"),
        Row("fewer flawed than redrawing equally often", "> 0", bootstrap(fewer(after, again)), "points"),
        Row(f"fewer flawed than redrawing {rounds} times", "", bootstrap(fewer(after, again_full)), "points"),
        *_misshapen(bench, first, best, redrawn),
        Row("object and color right, first round", "", bootstrap(before.right)),
        Row("object and color right, returned", "not lower", bootstrap(after.right)),
        Row("pictures painted per prompt", "", bootstrap(used), "plain"),
    ]
    for scorer in bench.tools.reporting_scorers:
        gain = _values(scorer, best, bench.prompts) - _values(scorer, first, bench.prompts)
        rows.append(Row(f"gain of the reporting score '{scorer.name}'", "", bootstrap(gain), "plain"))
    return rows


def _misshapen(
    bench: Bench, first: NDArray[np.uint8], best: NDArray[np.uint8], redrawn: NDArray[np.uint8]
) -> list[Row]:
    """What the geometry check says of the pictures; nothing in the loop asks it."""
    before, after, again = (bench.misshapen(pictures).astype(float) for pictures in (first, best, redrawn))
    check = "resembles no clean render"
    return [
        Row(f"{check}, first round", "", bootstrap(before)),
        Row(f"{check}, returned by the loop", "", bootstrap(after)),
        Row(f"{check}, redrawn as often as the loop painted", "", bootstrap(again)),
        Row(f"{check}: fewer than the first round", "> 0", bootstrap(before - after), "points"),
        Row(f"{check}: fewer than redrawing equally often", "> 0", bootstrap(again - after), "points"),
    ]


def _values(scorer: Scorer, pictures: NDArray[np.uint8], prompts: list[str]) -> NDArray[np.float64]:
    return np.array([s.value for s in scorer.score(list(pictures), prompts)])


def _digest(digest: str | None) -> str:
    if digest is None:
        raise RuntimeError("a finished run has a picture in every round")
    return digest


def main() -> None:
    parser = arguments(__doc__)
    add_prompts(parser)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    tools = bundled_tools()
    found = {kind: loop(Bench(args.n, args.seed, tools, kind), args.rounds) for kind in args.prompts}
    print(side_by_side({HEADINGS[kind]: rows for kind, rows in found.items()}))
    write(args.json, found)


if __name__ == "__main__":
    main()

"""How far can the judge be believed on painted pictures, of which nobody knows the truth? The bundled judge
beside the geometry check, which compares every solid with clean renders and is no classifier.

    python -m benchmarks.judge            256 prompts, plain and with all modifiers

Two tables of counts: which shape (the judge's word against the nearest render), and whether the shape is
flawed (the judge's word against the check's bounds).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import WEIGHTS, Bench, Row, arguments, bundled_tools
from contracts.intervals import bootstrap
from contracts.records import CATEGORIES
from tabletop import judge
from tabletop.geometry import GeometryCheck
from tabletop.scenes import SHAPES

STRUCTURE = CATEGORIES.index("structure")


def counts(rows: Sequence[int], columns: Sequence[int], names: int) -> NDArray[np.int64]:
    """(names, names): how often each pair of class numbers came up."""
    table = np.zeros((names, names), np.int64)
    np.add.at(table, (np.asarray(rows), np.asarray(columns)), 1)
    return table


def markdown(table: NDArray[np.int64], names: Sequence[str], corner: str) -> str:
    """A table of counts, a row per word of the check, a column per word of the judge."""
    head = f"| {corner} | " + " | ".join(names) + " |"
    rule = "| --- |" + " ---: |" * len(names)
    body = [
        f"| {name} | " + " | ".join(str(n) for n in row) + " |"
        for name, row in zip(names, table, strict=True)
    ]
    return "\n".join([head, rule, *body])


def main() -> None:
    args = arguments(__doc__).parse_args()
    bench = Bench(args.n, args.seed, bundled_tools())
    pictures = np.concatenate([bench.paint(), bench.paint(CATEGORIES)])
    asked = [[solid.shape for solid in scene.solids] for scene in bench.scenes] * 2
    opinion = judge.judge(judge.load(WEIGHTS / "judge"), pictures)
    check = GeometryCheck.load(WEIGHTS / "geometry")
    nearest = [check.nearest_shape(picture) for picture in pictures]
    there = [i for i, shape in enumerate(nearest) if shape is not None]
    shapes = counts([SHAPES.index(nearest[i]) for i in there], opinion.shape[there].tolist(), len(SHAPES))
    bad = [any(m.any() for m in masks) if masks else None for masks in check.misshapen(pictures, asked)]
    known = [i for i, word in enumerate(bad) if word is not None]
    seen = opinion.flaws[known, STRUCTURE] > 0.5
    truth = np.array([bad[i] for i in known])
    flaws = counts(truth.astype(int).tolist(), seen.astype(int).tolist(), 2)
    print(markdown(shapes, SHAPES, "nearest render / judge"), end="\n\n")
    print(markdown(flaws, ("sound", "misshapen"), "geometry check / judge"), end="\n\n")
    same = np.array([nearest[i] for i in there]) == np.array(SHAPES)[opinion.shape[there]]
    rows = [
        Row("judge and nearest render name the same shape", "", bootstrap(same)),
        Row("misshapen by the check: judge sees it", "", bootstrap(seen[truth])),
        Row("sound by the check: judge agrees", "", bootstrap(~seen[~truth])),
    ]
    print("\n".join(row.markdown() for row in rows))
    if args.json is not None:
        facts = {"shapes": shapes.tolist(), "structure": flaws.tolist()}
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""How far can the judge be believed on painted pictures, of which nobody knows the truth? The bundled judge
beside the geometry check, which compares every solid with clean renders and is no classifier.

    python -m benchmarks.judge            twice 256 prompts, plain and with all modifiers

Tables of counts: which shape (the judge's word against the nearest render; pictures of one solid), and
whether a solid is misshapen (the judge's word against the check's bounds; of one solid and of two).
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import (
    HEADINGS,
    WEIGHTS,
    Bench,
    Row,
    add_prompts,
    arguments,
    bundled_tools,
    geometry_check,
)
from contracts.intervals import bootstrap
from contracts.records import CATEGORIES
from tabletop import judge
from tabletop.scenes import SHAPES, Shape

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


def shapes_table(pictures: NDArray[np.uint8], opinion: judge.Opinion) -> tuple[NDArray[np.int64], Row]:
    """Of pictures of one solid: the judge's shape against the nearest render's, and how often they agree."""
    nearest = [geometry_check().nearest_shape(picture) for picture in pictures]
    there = [i for i, shape in enumerate(nearest) if shape is not None]
    names, words = [SHAPES.index(nearest[i]) for i in there], opinion.shape[there]
    same = bootstrap(np.array(names) == words)
    table = counts(names, words.tolist(), len(SHAPES))
    return table, Row("judge and nearest render name the same shape", "", same)


def flaws_table(
    pictures: NDArray[np.uint8], asked: Sequence[Sequence[Shape]], opinion: judge.Opinion
) -> tuple[NDArray[np.int64], list[Row]]:
    """Whether a solid is misshapen: the judge's word against the check's, and how often they agree. Pictures
    of which the check finds a solid missing are left out."""
    bad = [
        any(m.any() for m in masks) if masks else None
        for masks in geometry_check().misshapen(pictures, asked)
    ]
    known = [i for i, word in enumerate(bad) if word is not None]
    seen = opinion.flaws[known, STRUCTURE] > 0.5
    truth = np.array([bad[i] for i in known])
    rows = [
        Row("misshapen by the check: judge sees it", "", bootstrap(seen[truth])),
        Row("sound by the check: judge agrees", "", bootstrap(~seen[~truth])),
    ]
    return counts(truth.astype(int).tolist(), seen.astype(int).tolist(), 2), rows


def main() -> None:
    parser = arguments(__doc__)
    add_prompts(parser)
    args = parser.parse_args()
    tools, network = bundled_tools(), judge.load(WEIGHTS / "judge")
    facts: dict[str, dict[str, list[list[int]]]] = {}
    for kind in args.prompts:
        bench = Bench(args.n, args.seed, tools, kind)
        pictures = np.concatenate([bench.paint(), bench.paint(CATEGORIES)])
        asked = [scene.shapes for scene in bench.scenes] * 2
        opinion = judge.judge(network, pictures)
        flaws, rows = flaws_table(pictures, asked, opinion)
        facts[kind] = {"structure": flaws.tolist()}
        if kind == "one-solid":
            shapes, row = shapes_table(pictures, opinion)
            facts[kind]["shapes"] = shapes.tolist()
            rows = [row, *rows]
            print(markdown(shapes, SHAPES, "nearest render / judge"), end="\n\n")
        corner = f"{HEADINGS[kind]}: geometry check / judge"
        print(markdown(flaws, ("sound", "misshapen"), corner), end="\n\n")
        print("| figure | bar | measured |\n| --- | --- | --- |")
        print("\n".join(row.markdown() for row in rows), end="\n\n")
    if args.json is not None:
        args.json.write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()

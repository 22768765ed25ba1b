"""Is the embedded world right? Bundled generator, held-out prompts, the independent judge and the geometry
check, 95 % bootstrap intervals over prompts.

    python -m benchmarks.world            the README's table: 256 prompts, minutes on two cores
    python -m benchmarks.world --n 32     a quick look

All arms share prompts and seeds, so a modifier's effect is a difference between pictures of one seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import WEIGHTS, Bench, Judged, Row, arguments, bundled_tools, fewer, show
from contracts.intervals import bootstrap
from contracts.records import CATEGORIES
from tabletop import captions
from tabletop.geometry import GeometryCheck


def one_solid(bench: Bench) -> list[Row]:
    """What is painted, and what modifiers do to it."""
    plain_pictures, sound_pictures = bench.paint(), bench.paint(CATEGORIES)
    plain, everything = bench.judged(plain_pictures), bench.judged(sound_pictures)
    rows = [
        Row("object right, all modifiers", ">= 92 %", bootstrap(everything.object_right)),
        Row("color right, all modifiers", ">= 97 %", bootstrap(everything.color_right)),
        Row("flawed, plain prompts", "35-80 %", bootstrap(plain.flawed)),
        Row("flawed, all modifiers", "at most half of plain", bootstrap(everything.flawed)),
        *modifier_rows(bench, plain),
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
        own = bootstrap(fewer(single, plain, category))
        rows.append(Row(f'{category} flaws that "{word}" removes', "> 0", own, "points"))
        for other in CATEGORIES:
            if other != category:
                change = bootstrap(-fewer(single, plain, other))
                rows.append(Row(f'change of {other} flaws by "{word}"', "", change, "points"))
    return rows


def two_solids(bench: Bench) -> list[Row]:
    """Whether each color goes with its shape."""
    both = bench.judged(bench.paint(CATEGORIES))
    return [
        Row("two solids: both shapes right", "", bootstrap(both.object_right)),
        Row("two solids: shapes and colors bound", "", bootstrap(both.right)),
    ]


def _misshapen(check: GeometryCheck, bench: Bench, pictures: NDArray[np.uint8]) -> NDArray[np.bool_]:
    shapes = [[solid.shape for solid in scene.solids] for scene in bench.scenes]
    fits = check.fits(pictures, shapes)
    return np.array([not check.sound(found, names) for found, names in zip(fits, shapes, strict=True)])


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--two-solids", action="store_true", help="measure prompts with two solids as well")
    args = parser.parse_args()
    tools = bundled_tools()
    rows = one_solid(Bench(args.n, args.seed, tools))
    if args.two_solids:
        rows += two_solids(Bench(args.n, args.seed, tools, solids=2))
    show(rows, args.json)


if __name__ == "__main__":
    main()

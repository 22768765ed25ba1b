"""Artifacts below one percent of the picture: what tiles find, at an equal false-alarm rate.

    python -m benchmarks.small_artifacts
    python -m benchmarks.small_artifacts --set lens --n 100 --pictures out/small

Two sets of 192-pixel pictures from the embedded world, made for this measurement:

* sheet: nine pictures of the world on one sheet, one of them flawed. A tile that shows one of the nine is
  what the bundled defender was trained on; tiles do not overlap here, so there is such a tile for each.
* lens: one scene through a lens three times as wide, cut such that the object is anywhere. Tiles overlap by
  half; nearly all of them show framings (cut objects, none at all) that no training picture has.

Each way of looking, whole view or tiles, gets the limit on confidence at which its false alarms on
calibration pictures stay within the target; recall and false alarms are then counted on other pictures. An
artifact is found where a finding covers it with an IoU of 0.25 or more. Artifacts of one percent or more are
counted in a column of their own. Intervals are 95 %, over pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from contracts.intervals import Interval, bootstrap, ratio, resample
from contracts.protocols import Defender
from contracts.records import Diagnosis, Image, Mask
from defender.legion_defender import LegionDefender
from defender.tiling import TiledDefender, Tiling
from tabletop import render
from tabletop.flaws import render_pair
from tabletop.scenes import SEED_RANGES

SIDE, GRID = 64, 3
SMALL = 0.01
FOUND_IOU = 0.25
_FIRST_SEED = SEED_RANGES["test"][0] + 500_000


@dataclass(frozen=True, eq=False)
class Case:
    """A large picture, sound and flawed, and where it is flawed."""

    clean: Image
    flawed: Image
    masks: tuple[Mask, ...]


def sheet(seed: int) -> Case:
    """Nine pictures of the world, one of them flawed."""
    first = _FIRST_SEED + (seed - _FIRST_SEED) * GRID * GRID
    pairs = [render_pair(first + i) for i in range(GRID * GRID)]
    clean = np.concatenate(
        [
            np.concatenate([pair.clean for pair in pairs[row * GRID : row * GRID + GRID]], axis=1)
            for row in range(GRID)
        ]
    )
    place = int(np.random.default_rng(seed).integers(GRID * GRID))
    top, left = place // GRID * SIDE, place % GRID * SIDE
    return _case(clean, pairs[place].flawed, [f.mask for f in pairs[place].findings], top, left)


def lens(seed: int) -> Case:
    """One scene through a wide lens, cut to GRID * SIDE pixels around anywhere."""
    wide = 2 * GRID - 1
    pair = render_pair(seed)
    with _lens(wide):
        view = render.render(pair.scene, SIDE * wide).image
    # The middle of the wide view is, ray by ray, the picture through the usual lens.
    at = wide // 2 * SIDE
    whole = _case(view, pair.flawed, [f.mask for f in pair.findings], at, at)
    top, left = np.random.default_rng(seed).integers(0, SIDE * (wide - GRID) + 1, 2)
    part = np.s_[top : top + GRID * SIDE, left : left + GRID * SIDE]
    return Case(whole.clean[part], whole.flawed[part], tuple(mask[part] for mask in whole.masks))


SETS: dict[str, tuple[Callable[[int], Case], Tiling]] = {
    "sheet": (sheet, Tiling(GRID, overlap=0.0)),
    "lens": (lens, Tiling(GRID, overlap=0.5)),
}


def _case(clean: Image, flawed_part: Image, masks: Sequence[Mask], top: int, left: int) -> Case:
    flawed = clean.copy()
    part = np.s_[top : top + SIDE, left : left + SIDE]
    flawed[part] = flawed_part
    placed = []
    for mask in masks:
        large = np.zeros(clean.shape[:2], dtype=bool)
        large[part] = mask
        placed.append(large)
    return Case(clean, flawed, tuple(placed))


@contextmanager
def _lens(times: int) -> Iterator[None]:
    """The renderer's camera with a picture plane `times` as wide. It has one lens on purpose: the bundled
    models know no other, and nothing but this measurement asks for another."""
    usual = render._FIELD_OF_VIEW
    render._FIELD_OF_VIEW = 2 * np.rad2deg(np.arctan(times * np.tan(np.deg2rad(usual) / 2)))
    render._rays.cache_clear()
    try:
        yield
    finally:
        render._FIELD_OF_VIEW = usual
        render._rays.cache_clear()


@dataclass(frozen=True, eq=False)
class Way:
    """How a defender did on one set."""

    limit: float
    alarms: Interval
    small: Interval
    large: Interval
    found: tuple[int, ...]
    """Small artifacts found, per picture."""


def measure(defender: Defender, calibration: Sequence[Case], test: Sequence[Case], target: float) -> Way:
    """Choose the limit on `calibration`, count on `test`."""
    limit = limit_for(target, [surest(d) for d in _diagnose(defender, [case.clean for case in calibration])])
    sound = _diagnose(defender, [case.clean for case in test])
    flawed = _diagnose(defender, [case.flawed for case in test])
    small = [counts(d, case.masks, limit, 0, SMALL) for d, case in zip(flawed, test, strict=True)]
    large = [counts(d, case.masks, limit, SMALL, 1) for d, case in zip(flawed, test, strict=True)]
    return Way(
        limit,
        bootstrap([surest(d) >= limit for d in sound]),
        _recall(small),
        _recall(large),
        tuple(found for found, _ in small),
    )


def limit_for(target: float, confidences: Sequence[float]) -> float:
    """The smallest limit that at most a share `target` of the confidences reach."""
    allowed = int(target * len(confidences))
    ranked = sorted(confidences, reverse=True)
    return float(np.nextafter(ranked[allowed], 2)) if allowed < len(ranked) else 0.0


def surest(diagnosis: Diagnosis) -> float:
    """Confidence of the surest finding; 0 where there is none."""
    return max((finding.confidence for finding in diagnosis.findings), default=0.0)


def counts(
    diagnosis: Diagnosis, masks: Sequence[Mask], limit: float, least: float, most: float
) -> tuple[int, int]:
    """(found, present) artifacts whose share of the picture is from `least` to below `most`."""
    wanted = [mask for mask in masks if least <= mask.mean() < most and mask.any()]
    sure = [finding.mask for finding in diagnosis.findings if finding.confidence >= limit]
    found = sum(any((m & w).sum() >= FOUND_IOU * (m | w).sum() for m in sure) for w in wanted)
    return found, len(wanted)


def _recall(pairs: Sequence[tuple[int, int]]) -> Interval:
    found, present = zip(*pairs, strict=True)
    return resample(ratio(found, present), len(pairs))


def _diagnose(defender: Defender, images: Sequence[Image]) -> list[Diagnosis]:
    print(f"  {len(images)} pictures ...", file=sys.stderr, flush=True)
    return defender.diagnose(images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("tabletop/weights/defender"))
    parser.add_argument("--set", choices=[*SETS, "all"], default="all")
    parser.add_argument("--n", type=int, default=100, help="pictures to calibrate on, and as many to test on")
    parser.add_argument("--target", type=float, default=0.04, help="share of sound pictures with a finding")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="write some of the pictures there")
    args = parser.parse_args()
    defender = LegionDefender.load(args.weights, batch_size=64)
    lines = [
        "| set | look | limit | false alarms | recall below 1 % | recall of larger ones |",
        "| - " * 6 + "|",
    ]
    for name in SETS if args.set == "all" else [args.set]:
        make, tiling = SETS[name]
        cases = [make(_FIRST_SEED + i) for i in range(2 * args.n)]
        if args.pictures:
            _write(cases[:8], args.pictures / f"{name}.png")
        calibration, test = cases[: args.n], cases[args.n :]
        present = [sum(mask.mean() < SMALL for mask in case.masks) for case in test]
        print(f"{name}: {sum(present)} small artifacts", file=sys.stderr, flush=True)
        ways = {
            "whole view": measure(defender, calibration, test, args.target),
            "tiles": measure(TiledDefender(defender, tiling), calibration, test, args.target),
        }
        lines += [
            f"| {name} | {look} | {way.limit:.3f} | {way.alarms.percent()} | {way.small.percent()} | "
            f"{way.large.percent()} |"
            for look, way in ways.items()
        ]
        gain = np.subtract(ways["tiles"].found, ways["whole view"].found)
        lines.append(f"| {name} | gain | | | {resample(ratio(gain, present), len(test)).points()} | |")
    print("\n".join(lines))


def _write(cases: Sequence[Case], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [np.concatenate([getattr(case, kind) for case in cases], axis=1) for kind in ("clean", "flawed")]
    Pillow.fromarray(np.concatenate(rows)).save(path)


if __name__ == "__main__":
    main()

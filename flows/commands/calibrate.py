"""`legion calibrate`: choose the thresholds of a checkpoint on pictures of which the truth is known."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import (
    add_checkpoint,
    add_common,
    add_dataset,
    add_profile,
    add_tiles,
    dataset_request,
    load_legion,
)

if TYPE_CHECKING:
    from defender.evaluation.calibration import Evidence

DEFAULT_FALSE_ALARMS = 0.04


def add(commands: Any) -> None:
    """Register the command."""
    about = "choose when a defender speaks up, and what its probabilities mean"
    parser = commands.add_parser("calibrate", help=about, description=about)
    parser.set_defaults(handler=calibrate)
    add_dataset(parser, "validation")
    add_profile(parser)
    add_checkpoint(parser)
    add_tiles(parser, "choose the least confidence with --tiles as well, enlarged up to ZOOM times, slower")
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=DEFAULT_FALSE_ALARMS,
        metavar="SHARE",
        help=f"largest share of clean pictures that may get a finding (default: {DEFAULT_FALSE_ALARMS})",
    )
    parser.add_argument(
        "--max-noise",
        type=float,
        metavar="X",
        help="denoise pictures with more noise than X before looking, a standard deviation between 0 and 1, "
        "where white is 1 (default: as the checkpoint has it; 1: never)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="copy the checkpoint there and calibrate the copy (default: write into the checkpoint; the "
        "bundled one is never changed)",
    )
    add_common(parser)


def calibrate(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion calibrate`."""
    from defender.evaluation.calibration import alarms, summary, thresholds_from, tile_confidence_from
    from flows import assemble
    from flows.jobs.evaluating import open_source

    folder = assemble.defender_folder(arguments.profile, arguments.checkpoint)
    target = _target(folder, arguments.out)
    request = dataset_request(arguments)
    source, indices = open_source(request)
    defender = load_legion(arguments)
    if arguments.max_noise is not None:
        defender = defender.at(max_noise=_max_noise(arguments.max_noise))
    evidence, broken = _gather(defender, source, indices)
    before = defender.thresholds
    after = thresholds_from(evidence, before, arguments.false_alarms)
    shares = dict(summary(evidence, before)), dict(summary(evidence, after))
    if arguments.tiles is not None:
        tiled = _gather_tiled(defender.with_thresholds(after), arguments.tiles, source, indices)
        after = tile_confidence_from(tiled, after, arguments.false_alarms)
        for share, thresholds in zip(shares, (before, after), strict=True):
            share.update(alarms(tiled, thresholds, " with tiles"))
    if target != folder:
        shutil.copytree(folder, target)
    assemble.save_thresholds(target, after)
    result = {
        "checkpoint": str(target),
        "thresholds": asdict(after),
        "before": shares[0],
        "after": shares[1],
        "unreadable": broken,
    }
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _print(result, asdict(before))
    return 0


def _max_noise(given: float) -> float:
    if not 0 <= given <= 1:
        raise InvalidInput(f"--max-noise {given} cannot be used: choose 0 to 1")
    return given


def _target(folder: Path, out: Path | None) -> Path:
    """Where the thresholds go. Raises InvalidInput for a folder that is there already, or may not change."""
    from flows.settings import CHECKOUT

    if out is not None:
        target = out.expanduser().resolve()
        if target.exists():
            raise InvalidInput(f"{out} exists already: choose a new folder for the calibrated copy")
        return target
    if folder.resolve().is_relative_to(CHECKOUT / "tabletop" / "weights"):
        raise InvalidInput(
            "the bundled defender is not changed: --out DIR calibrates a copy for --checkpoint DIR"
        )
    return folder


def _gather(defender: Any, source: Any, indices: Sequence[int]) -> tuple[Evidence, list[dict[str, str]]]:
    from defender.evaluation.calibration import NOTHING, gather
    from defender.evaluation.pictures import Picture, Unreadable, batches
    from flows.terminal.progress import counting

    evidence, broken = NOTHING, []
    with counting("looking", len(indices)) as advance:
        for together in batches(source, indices):
            pictures = [picture for picture in together if isinstance(picture, Picture)]
            failed = [picture for picture in together if isinstance(picture, Unreadable)]
            broken += [{"picture": picture.name, "reason": picture.reason} for picture in failed]
            evidence += gather(defender, pictures)
            for _ in together:
                advance()
    return evidence, broken


def _gather_tiled(defender: Any, zoom: int, source: Any, indices: Sequence[int]) -> Evidence:
    """The same pictures once more, with tiles; what cannot be read was reported the first time."""
    from defender.evaluation.calibration import NOTHING, gather_tiled
    from defender.evaluation.pictures import Picture, batches
    from defender.tiling import TiledDefender, Tiling
    from flows.terminal.progress import counting

    evidence, closer = NOTHING, TiledDefender(defender, Tiling(zoom))
    with counting("looking closer", len(indices)) as advance:
        for together in batches(source, indices):
            evidence += gather_tiled(closer, [p for p in together if isinstance(p, Picture)])
            for _ in together:
                advance()
    return evidence


def _print(result: dict[str, Any], before: dict[str, float]) -> None:
    from flows.terminal.evaluating import print_table
    from flows.terminal.wording import count

    lines = [
        (name.replace("_", " "), _text(before[name], 4), _text(value, 4))
        for name, value in result["thresholds"].items()
    ]
    lines += [(name, _text(result["before"][name]), _text(value)) for name, value in result["after"].items()]
    print_table("thresholds, and what they make of these pictures", ("", "before", "after"), lines)
    print("On pictures that took no part: legion evaluate localization, legion evaluate detection.")
    if result["unreadable"]:
        print(f"Unreadable, and not replaced by others: {count(len(result['unreadable']), 'picture')}.")
    print(f"calibrated: {result['checkpoint']}")


def _text(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"

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
    parser.add_argument(
        "--false-alarms",
        type=float,
        default=DEFAULT_FALSE_ALARMS,
        metavar="SHARE",
        help=f"largest share of clean pictures that may get a finding (default: {DEFAULT_FALSE_ALARMS})",
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
    from defender.evaluation.calibration import summary, thresholds_from
    from flows import assemble
    from flows.jobs.evaluating import open_source

    folder = assemble.defender_folder(arguments.profile, arguments.checkpoint)
    target = _target(folder, arguments.out)
    request = dataset_request(arguments)
    source, indices = open_source(request)
    defender = load_legion(arguments)
    evidence, broken = _gather(defender, source, indices)
    before = defender.thresholds
    after = thresholds_from(evidence, before, arguments.false_alarms)
    if target != folder:
        shutil.copytree(folder, target)
    assemble.save_thresholds(target, after)
    result = {
        "checkpoint": str(target),
        "thresholds": asdict(after),
        "before": dict(summary(evidence, before)),
        "after": dict(summary(evidence, after)),
        "unreadable": broken,
    }
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _print(result, asdict(before))
    return 0


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
    from flows.terminal.console import counting

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

"""`legion train`: the bundled models, and `legion train network`: a defender on people's own pictures.

The options of the bundled models belong to the training room, which parses them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import add_common
from flows.jobs.evaluating import TABLETOP

if TYPE_CHECKING:
    from defender.training.network import Source

NETWORK = "network"
DEFAULT_SCENES = 1_000
_DESCRIPTION = """Train a defender on your own pictures, or go on with a training that was stopped: the same
command does both. docs/training.md says which settings there are, and how to use several processes."""


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "train",
        add_help=False,
        help="train a bundled model, or a defender on your own pictures (legion train network)",
    )
    models = parser.add_subparsers(dest="model", metavar="MODEL")
    network = models.add_parser(NETWORK, description=_DESCRIPTION)
    network.add_argument(
        "dataset",
        nargs="?",
        type=Path,
        metavar="DATASET",
        help="folder of the data set (none for tabletop, which renders its pictures itself)",
    )
    network.add_argument(
        "--format",
        default="synthscars",
        help="how it is laid out: synthscars, loki, richhf, tabletop, or for stage 2 folders (default: "
        "synthscars)",
    )
    network.add_argument(
        "--scenes",
        type=int,
        metavar="N",
        help=f"tabletop only: how many, four pictures each (default: {DEFAULT_SCENES})",
    )
    network.add_argument("--split", default="train", help="which part of it to train on (default: train)")
    network.add_argument(
        "--validation-split", metavar="SPLIT", help="choose the best on this part (default: a share held out)"
    )
    network.add_argument(
        "--clean", type=Path, metavar="FOLDER", help="photographs without artifacts, to train on as well"
    )
    network.add_argument("--stage", help="1 (localization, explanation), 2 (detection) or joint (default: 1)")
    network.add_argument("--config", type=Path, metavar="FILE", help="settings as a .toml file")
    network.add_argument("--out", type=Path, required=True, metavar="DIR", help="where everything goes")
    network.add_argument(
        "--from", dest="start", type=Path, metavar="DIR", help="checkpoint to start from (default: bundled)"
    )
    network.add_argument("--steps", type=int, metavar="N", help="optimizer steps")
    network.add_argument("--epochs", type=float, metavar="N", help="passes over the samples (default: 3)")
    network.add_argument("--batch-size", type=int, metavar="N", help="samples of a step, over all processes")
    network.add_argument("--accumulation", type=int, metavar="N", help="parts that a process takes them in")
    network.add_argument("--learning-rate", type=float, metavar="X", help="the peak")
    network.add_argument("--pause-after", type=float, metavar="S", help="stop after so many seconds, for now")
    network.add_argument("--tracker", metavar="NAME", help="also write to: tensorboard")
    add_common(network)
    network.set_defaults(handler=train_network)


def train(words: Sequence[str]) -> int:
    """`legion train MODEL`: everything after it belongs to the training room."""
    from tabletop.training import main as train_main

    if not words or set(words) & {"-h", "--help"}:
        print("legion train network DATASET trains on your own pictures: legion train network --help\n")
    train_main(list(words))
    return 0


def train_network(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """`legion train network`: one training, begun or continued."""
    from defender.training.network import train_network
    from defender.training.settings import read_settings
    from flows.profiles.loading import load_profile

    schedule = ("steps", "epochs", "batch_size", "accumulation", "learning_rate", "pause_after")
    settings = read_settings(
        arguments.config,
        {
            "stage": arguments.stage,
            "start": arguments.start,
            "tracker": arguments.tracker,
            "schedule": {name: getattr(arguments, name) for name in schedule},
            "validation": {"split": arguments.validation_split},
        },
    )
    source = _source(arguments)
    bundled = Path(load_profile("tabletop").defender.path)
    result = train_network(source, settings, arguments.out, bundled)
    if result is None:  # another process of this training speaks for all
        return 0
    if arguments.json:
        facts = {
            "finished": result.outcome.finished,
            "step": result.outcome.step,
            "seconds": round(result.outcome.seconds, 1),
            "samples": result.trained_on,
            "held_out": result.held_out,
            "broken": result.broken,
            "best": str(result.best) if result.best else None,
            "last": str(result.last) if result.last else None,
        }
        print(json.dumps(facts))
        return 0
    verb = "finished" if result.outcome.finished else "paused"
    print(
        f"{verb} at step {result.outcome.step}: {result.trained_on} samples, {result.held_out} held out, "
        f"{result.broken} broken, {result.outcome.seconds:.0f} s"
    )
    for name, folder in (("best", result.best), ("last", result.last)):
        if folder is not None:
            print(f"{name}: {folder}")
    if not result.outcome.finished:
        print("the same command goes on", file=sys.stderr)
    return 0


def _source(arguments: argparse.Namespace) -> Source:
    """Where the samples are. Raises InvalidInput where a folder or a number is missing or too much."""
    from defender.training.network import Source

    folder, form, scenes = arguments.dataset, arguments.format, arguments.scenes
    if form == TABLETOP:
        from tabletop.held_out import RenderedScenes

        if folder is not None:
            raise InvalidInput(f"--format {form} renders its pictures itself: leave {folder} away")
        wanted = DEFAULT_SCENES if scenes is None else scenes
        return Source(
            None, form, arguments.split, arguments.clean, lambda split: RenderedScenes(wanted, split)
        )
    if scenes is not None:
        raise InvalidInput(f"--scenes is for --format {TABLETOP}: {form} has the pictures that are there")
    if folder is None or not folder.exists():
        missing = "no DATASET is given" if folder is None else f"{folder} does not exist"
        raise InvalidInput(f"{missing}: give the folder of a data set, or --format {TABLETOP}")
    return Source(folder, form, arguments.split, arguments.clean)

"""Is one stage as good as two? LEGION trains localization and explanation first, detection on frozen
features after it; doing both at once is what the paper leaves to others (arXiv 2503.15264). Both ways here,
from the same warmed-up network, on the same tabletop data, with as many steps; stage 2, which trains the
detection head alone and costs little, comes on top of the first way's.

    python -m benchmarks.stages                    1,200 steps each: hours on two cores; goes on if stopped
    python -m benchmarks.stages --steps 40 --n 40  a quick look

Both are calibrated on scenes of the validation seeds and measured on scenes of the test seeds. Needs what
`legion train defender` leaves under build/: its rendered pairs, what the autoencoder makes of them, and the
warmed-up towers.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.bench import REPORTING_SEED
from contracts.errors import CheckpointError
from contracts.tables import Table
from defender import checkpoint
from defender.datasets import Collator
from defender.evaluation import calibrate, measured
from defender.evaluation.figures import Figure
from defender.evaluation.tables import cell
from defender.legion_defender import LegionDefender
from defender.model import Legion
from defender.text import Dialog
from defender.training.heads import VisionHeads
from defender.training.stages import train_joint, train_stage1, train_stage2
from tabletop import data, inputs, training
from tabletop import train_defender as recipe
from tabletop.held_out import DECODED, RENDERED, RenderedScenes

WAYS = ("two stages", "joint")
SHOWN = (
    "mIoU",
    "F1",
    "false alarms",
    "F1 per artifact",
    "category right",
    "nouns of the phrase right",
    "accuracy",
)
"""What is told of both ways; accuracy is that of real against generated."""


def warmed_up(
    build: Path, pairs: data.PairSet, args: argparse.Namespace
) -> tuple[Legion, VisionHeads, Dialog]:
    """The network after its warm-up, its heads and its dialog. Raises CheckpointError without one."""
    path = build / "defender" / "warm-up.safetensors"
    if not path.exists():
        raise CheckpointError(f"there is no {path}: run legion train defender first")
    model, dialog = recipe.prepare(pairs, args.folder, args.weights / "clip")
    heads = VisionHeads(model, recipe.HEAD_SIZES)
    torch.nn.ModuleDict({"model": model, "heads": heads}).load_state_dict(load_file(path))
    return model, heads, dialog


def train_both(args: argparse.Namespace) -> None:
    """Train both ways, or go on with them; their checkpoints lie in the folder under WAYS."""
    pairs = data.load("train", recipe.PAIRS, args.data)
    samples = recipe.TabletopSamples(pairs, inputs.reconstructed(args, "train", recipe.PAIRS))
    joint, joint_heads, dialog = warmed_up(args.build, pairs, args)
    two, two_heads = copy.deepcopy(joint), copy.deepcopy(joint_heads)
    collate = Collator(joint.config, dialog, recipe.FIRST_TOKEN_WEIGHT)
    schedule = replace(recipe.STAGE_1, steps=args.steps, seed=REPORTING_SEED)
    detection = replace(recipe.STAGE_2, steps=min(recipe.STAGE_2.steps, args.steps))
    train_stage1(two, samples, collate, schedule, args.folder / "two", heads=two_heads)
    train_stage2(two, samples, collate, detection, args.folder / "two")
    train_joint(joint, samples, collate, schedule, args.folder / "joint", heads=joint_heads)
    for name, network in zip(WAYS, (two, joint), strict=True):
        checkpoint.save(args.folder / name, network, dialog.tokenizer)


def measure(folder: Path, scenes: int) -> list[Figure]:
    """Calibrate a checkpoint on so many validation scenes, and measure it on as many test scenes."""
    thresholds = calibrate(LegionDefender.load(folder), RenderedScenes(scenes, "validation"))
    checkpoint.save_thresholds(folder, thresholds)
    found = measured(LegionDefender.load(folder), RenderedScenes(scenes, "test"))
    return [figure for figure in found if figure.name in SHOWN and figure.group in (RENDERED, DECODED)]


def table_of(found: Sequence[Sequence[Figure]]) -> Table:
    """One line for each figure of each kind of picture, the ways side by side."""
    places = dict.fromkeys((f.name, f.group) for figures in found for f in figures)
    columns = [{(f.name, f.group): f for f in figures} for figures in found]
    lines = [
        (", ".join(filter(None, place)), *(cell(column.get(place)) for column in columns)) for place in places
    ]
    return Table(("percent", *WAYS), tuple(lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1_200)
    parser.add_argument(
        "--n", type=int, default=250, help="scenes to calibrate on, and as many to measure on"
    )
    parser.add_argument("--build", type=Path, default=training.BUILD)
    parser.add_argument("--weights", type=Path, default=training.WEIGHTS)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER)
    args = parser.parse_args()
    args.folder = args.build / f"stages-{args.steps}"
    args.folder.mkdir(parents=True, exist_ok=True)
    train_both(args)
    print(table_of([measure(args.folder / way, args.n) for way in WAYS]).markdown())


if __name__ == "__main__":
    main()

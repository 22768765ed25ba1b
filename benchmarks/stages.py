"""Is one stage as good as two? LEGION trains localization and explanation first, detection on frozen
features after it; doing both at once is what the paper leaves to others (arXiv 2503.15264). Both ways here,
from the same warmed-up network, on the same tabletop data, for the same number of steps.

    python -m benchmarks.stages                    1,200 steps each: hours on two cores; goes on if stopped
    python -m benchmarks.stages --steps 40 --n 40  a quick look

Needs what `legion train defender` leaves under build/: its rendered pairs, what the autoencoder makes of
them, and the warmed-up tower.
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.bench import REPORTING_SEED
from contracts.errors import CheckpointError
from defender import checkpoint
from defender.datasets import Collator
from defender.training.heads import VisionHeads
from defender.training.stages import train_joint, train_stage1, train_stage2
from tabletop import data, inputs, training
from tabletop import train_defender as recipe


def warmed_up(build: Path, pairs: data.PairSet, args: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The network after its warm-up, its heads and its dialog. Raises CheckpointError without one."""
    path = build / "defender" / "warm-up.safetensors"
    if not path.exists():
        raise CheckpointError(f"there is no {path}: run legion train defender first")
    model, dialog = recipe.prepare(pairs, args.folder, args.weights / "clip")
    heads = VisionHeads(model, recipe.HEAD_SIZES)
    torch.nn.ModuleDict({"model": model, "heads": heads}).load_state_dict(load_file(path))
    return model, heads, dialog


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1_200)
    parser.add_argument("--n", type=int, default=500, help="held-out pairs that are measured")
    parser.add_argument("--build", type=Path, default=training.BUILD)
    parser.add_argument("--weights", type=Path, default=training.WEIGHTS)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER)
    args = parser.parse_args()
    args.folder = args.build / f"stages-{args.steps}"
    args.folder.mkdir(parents=True, exist_ok=True)
    pairs = data.load("train", recipe.PAIRS, args.data)
    decoded = inputs.reconstructed(args, "train", recipe.PAIRS)
    model, heads, dialog = warmed_up(args.build, pairs, args)
    samples = recipe.TabletopSamples(pairs, decoded)
    collate = Collator(model.config, dialog, recipe.FIRST_TOKEN_WEIGHT)
    schedule = replace(recipe.STAGE_1, steps=args.steps, seed=REPORTING_SEED)
    two, two_heads = copy.deepcopy(model), copy.deepcopy(heads)
    train_stage1(two, samples, collate, schedule, args.folder / "two", heads=two_heads)
    train_stage2(two, samples, collate, recipe.STAGE_2, args.folder / "two")
    train_joint(model, samples, collate, schedule, args.folder / "joint", heads=heads)
    held_out = data.load("validation", args.n, args.data)
    shown = inputs.reconstructed(args, "validation", args.n)
    figures = {}
    for name, network in (("two stages", two), ("joint", model)):
        checkpoint.save(args.folder / name, network, dialog.tokenizer)
        figures[name] = recipe.calibrate_and_measure(args.folder / name, held_out, shown)
    print("| figure | two stages | joint |\n| --- | --- | --- |")
    for how, values in figures["two stages"].items():
        for claim, value in values.items():
            print(f"| {claim}, {how} | {value:.3f} | {figures['joint'][how][claim]:.3f} |")


if __name__ == "__main__":
    main()

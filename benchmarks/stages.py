"""Is one stage as good as two? LEGION trains localization and explanation first, detection on frozen
features after it; doing both at once is what the paper leaves to others (arXiv 2503.15264). Both ways here,
from the same warmed-up network, on the same tabletop data, with as many steps; stage 2, which trains the
detection head alone and costs little, comes on top of the first way's.

    python -m benchmarks.stages                    1,200 steps each: hours on two cores; goes on if stopped
    python -m benchmarks.stages --steps 40 --warm-up 40 --pairs 500 --n 40    a quick look

Both are calibrated on scenes of the validation seeds and measured on scenes of the test seeds. Pairs are
rendered, and go through the bundled generator's autoencoder, when they are not under build/ yet.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diffusers import AutoencoderKL

from benchmarks.bench import REPORTING_SEED, WEIGHTS
from contracts.tables import Table
from defender import checkpoint
from defender.datasets import Collator
from defender.evaluation import calibrate, measured
from defender.evaluation.figures import Figure
from defender.evaluation.tables import cell
from defender.legion_defender import LegionDefender
from defender.training.stages import train_joint, train_stage1, train_stage2
from tabletop import autoencoder, data, training
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


def train_both(args: argparse.Namespace) -> None:
    """Train both ways, or go on with them; their checkpoints lie in the folder under WAYS."""
    data.make("train", args.pairs, args.data)
    pairs = data.load("train", args.pairs, args.data)
    samples = recipe.TabletopSamples(pairs, reconstructed(pairs))
    joint, dialog = recipe.prepare(pairs, args.folder, WEIGHTS / "clip")
    collate = Collator(joint.config, dialog, recipe.FIRST_TOKEN_WEIGHT)
    warm_up = replace(recipe.WARM_UP, steps=args.warm_up)
    joint_heads, warmed = recipe.warm_up(joint, samples, collate, warm_up, args.folder)
    assert warmed is None or warmed.finished, "nothing pauses it here"
    two, two_heads = copy.deepcopy(joint), copy.deepcopy(joint_heads)
    schedule = replace(recipe.STAGE_1, steps=args.steps, seed=REPORTING_SEED)
    detection = replace(recipe.STAGE_2, steps=min(recipe.STAGE_2.steps, args.steps))
    train_stage1(two, samples, collate, schedule, args.folder / "two", heads=two_heads)
    train_stage2(two, samples, collate, detection, args.folder / "two")
    train_joint(joint, samples, collate, schedule, args.folder / "joint", heads=joint_heads)
    for name, network in zip(WAYS, (two, joint), strict=True):
        checkpoint.save(args.folder / name, network, dialog.tokenizer)


def reconstructed(pairs: data.PairSet) -> recipe.Pictures:
    """The pairs' pictures after the bundled generator's autoencoder."""
    vae = AutoencoderKL.from_pretrained(WEIGHTS / "generator" / "vae").float().eval()
    return autoencoder.reconstruct(vae, pairs.clean), autoencoder.reconstruct(vae, pairs.flawed)


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
    parser.add_argument("--steps", type=int, default=1_200, help="of stage 1, and of the joint one")
    parser.add_argument("--warm-up", type=int, default=recipe.WARM_UP.steps, help="steps that both share")
    parser.add_argument("--pairs", type=int, default=recipe.PAIRS, help="of a clean and a flawed picture")
    parser.add_argument(
        "--n", type=int, default=250, help="scenes to calibrate on, and as many to measure on"
    )
    parser.add_argument("--build", type=Path, default=training.BUILD)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER)
    args = parser.parse_args()
    args.folder = args.build / f"stages-{args.pairs}-{args.warm_up}-{args.steps}"
    args.folder.mkdir(parents=True, exist_ok=True)
    train_both(args)
    print(table_of([measure(args.folder / way, args.n) for way in WAYS]).markdown())


if __name__ == "__main__":
    main()

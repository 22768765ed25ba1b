"""`legion train ...`: make the bundled models from nothing, one command each.

Every command resumes where it stopped, writes its weights under tabletop/weights/ and a model card beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from tabletop import data

BUILD = Path("build/tabletop")
WEIGHTS = Path(__file__).parent / "weights"


def train_clip(args: argparse.Namespace) -> None:
    """Both towers of the tiny CLIP."""
    from tabletop import cards, clip

    schedule = replace(clip.SCHEDULE, max_seconds=args.max_seconds)
    pairs = data.load("train", clip.PAIRS, args.data)
    model, tokenizer, outcome = clip.train_clip(pairs, args.build / "clip", schedule)
    if outcome.finished:
        clip.save(model, tokenizer, args.weights / "clip")
        figures = clip.evaluate(model, tokenizer, data.load("validation", 1_000, args.data))
        cards.write("clip", args.weights / "clip", schedule, outcome, clip.PAIRS, figures)


def train_autoencoder(args: argparse.Namespace) -> None:
    """The generator's autoencoder; kept in the build folder until the generator is assembled."""
    from tabletop import autoencoder

    schedule = replace(autoencoder.SCHEDULE, max_seconds=args.max_seconds)
    pairs = data.load("train", autoencoder.PAIRS, args.data)
    model, outcome = autoencoder.train_autoencoder(pairs, args.build / "autoencoder", schedule)
    if outcome.finished:
        model.save_pretrained(args.build / "autoencoder" / "model")
        print(autoencoder.evaluate(model, data.load("validation", 1_000, args.data)))


COMMANDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "clip": train_clip,
    "autoencoder": train_autoencoder,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run one training command."""
    parser = argparse.ArgumentParser(prog="legion train", description=__doc__)
    parser.add_argument("model", choices=["data", *COMMANDS])
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder of the rendered pairs")
    parser.add_argument("--build", type=Path, default=BUILD, help="folder of checkpoints and logs")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where finished weights go")
    parser.add_argument("--max-seconds", type=float, default=float("inf"), help="pause after so long; run again to go on")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (results are reproducible per count)")
    args = parser.parse_args(argv)
    if args.model == "data":
        for split, count in data.DEFAULT_COUNTS.items():
            data.make(split, count, args.data)
        return
    import torch

    torch.set_num_threads(args.threads)
    COMMANDS[args.model](args)


if __name__ == "__main__":
    main()

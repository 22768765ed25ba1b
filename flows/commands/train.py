"""`legion train`: make the bundled models. Its options belong to the training room, which parses them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def add(commands: Any) -> None:
    """Register the command."""
    commands.add_parser("train", add_help=False, help="train a bundled model; legion train --help says more")


def train(words: Sequence[str]) -> int:
    """`legion train`: everything after it belongs to the training room."""
    from tabletop.training import main as train_main

    train_main(list(words))
    return 0

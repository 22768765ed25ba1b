"""Kinds of scorers by the names that profiles and the command line use; each imports its own module only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from contracts.protocols import Scorer

NetworkKind: TypeAlias = Literal["clip", "clipscore", "pickscore", "hpsv2", "imagereward"]
"""Kinds with weights of their own; "artifact-area" has a defender instead (artifact_area.py)."""


def load_scorer(kind: NetworkKind, path: Path | str, name: str, **options: Any) -> Scorer:
    """A scorer of that kind. `options` are those of its loader (device, dtype, batch_size, and antialias for
    hpsv2).

    Raises CheckpointError for weights that are missing or do not fit, InvalidInput for unusable options.
    """
    match kind:
        case "clip" | "clipscore" | "pickscore":
            from controller.scorers.clip import load_clip

            return load_clip(path, name, kind=kind, **options)
        case "hpsv2":
            from controller.scorers.hpsv2 import load_hpsv2

            return load_hpsv2(path, name, **options)
        case "imagereward":
            from controller.scorers.imagereward import load_imagereward

            return load_imagereward(path, name, **options)

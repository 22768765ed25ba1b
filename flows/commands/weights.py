"""`legion weights`: convert other people's defender checkpoints, and say what a checkpoint is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.commands.options import add_common

if TYPE_CHECKING:
    from defender.describing import Description


def add(commands: Any) -> None:
    """Hang `weights import` and `weights show` on the command line."""
    parser = commands.add_parser(
        "weights", help="convert a released LEGION or GLaMM, or describe a checkpoint"
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    taken = actions.add_parser("import", help="convert another project's checkpoint to this one's folder")
    taken.set_defaults(handler=import_weights)
    taken.add_argument(
        "source", metavar="SRC", help="a checkpoint folder, a single weights file, or a name on the hub"
    )
    taken.add_argument("target", type=Path, metavar="DST", help="the folder to make")
    taken.add_argument(
        "--clip",
        metavar="DIR",
        help="folder or hub name of the CLIP that the source was trained with, as released ones leave it "
        "out: openai/clip-vit-large-patch14-336",
    )
    taken.add_argument(
        "--sam",
        metavar="FILE",
        help="original SAM weights (.pth), or ORG/NAME/FILE on the hub, where the source has none",
    )
    taken.add_argument(
        "--config",
        metavar="DIR",
        help="folder or hub name with config.json and tokenizer.model (default: the source's own)",
    )
    add_common(taken)

    shown = actions.add_parser("show", help="parts, sizes, types, digest and thresholds of a checkpoint")
    shown.set_defaults(handler=show_weights)
    shown.add_argument("folder", type=Path, metavar="DIR", help="a checkpoint folder, or a weights file")
    add_common(shown)


def import_weights(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion weights import`."""
    from defender.hub import locate
    from defender.importing import check_target
    from defender.importing import import_weights as convert
    from flows.terminal.progress import waiting

    check_target(arguments.target)
    with waiting("fetching what is not here yet"):
        source = locate(arguments.source)
        clip, sam = (locate(given) if given else None for given in (arguments.clip, arguments.sam))
        settings = locate(arguments.config, weights=False) if arguments.config else None
    with waiting("converting the weights"):
        done = convert(source, arguments.target, clip=clip, sam=sam, settings=settings)
    if arguments.json:
        result = {
            "folder": str(arguments.target),
            "tensors": len(done.weights),
            "bytes": done.bytes,
            "merged": done.merged,
            "ignored": done.ignored,
            "sources": dict(done.sources),
        }
        print(json.dumps(result))
        return 0
    print(f"{arguments.target}: {len(done.weights)} tensors, {size_text(done.bytes)}")
    for part, origin in done.sources.items():
        print(f"  {part}: {origin}")
    if done.merged:
        print(f"  low-rank adapters merged: {done.merged}")
    if done.ignored:
        print(f"  left out, not needed: {done.ignored}")
    return 0


def show_weights(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion weights show`."""
    from defender.describing import describe

    found = describe(arguments.folder)
    print(found.to_json() if arguments.json else description_text(found))
    return 0


def description_text(found: Description) -> str:
    """A checkpoint as lines of text."""
    lines = [found.kind]
    rows = [
        (part.name, f"{part.tensors}", f"{part.parameters:,}", size_text(part.bytes), ", ".join(part.dtypes))
        for part in found.parts
    ]
    head = ("part", "tensors", "parameters", "size", "type")
    total = sum(part.tensors for part in found.parts)
    rows = [head, *rows, ("total", f"{total}", f"{found.parameters:,}", size_text(found.bytes), "")]
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for name, *numbers, dtypes in rows:
        cells = [number.rjust(width) for number, width in zip(numbers, widths[1:], strict=False)]
        lines.append("  ".join([name.ljust(widths[0]), *cells, dtypes]).rstrip())
    if found.absent:
        lines.append(f"absent or not trained: {', '.join(found.absent)}")
    if found.image_tokens is not None:
        lines.append(f"image tokens: {found.image_tokens}; SAM canvas: {found.sam_canvas} pixels")
    if found.digest is not None:
        lines.append(f"digest: {found.digest}")
        lines.append(f"thresholds: {_thresholds_text(found)}")
    return "\n".join(lines)


def size_text(count: int) -> str:
    """Bytes for a person: 16.8 GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"


def _thresholds_text(found: Description) -> str:
    if found.thresholds is None:
        return "not calibrated (defaults)"
    return ", ".join(f"{name} {value:g}" for name, value in vars(found.thresholds).items())

"""`legion tabletop`: the embedded world for other programs to read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import add_common

if TYPE_CHECKING:
    from defender.datasets import Sample

DEFAULT_SCENES = 250


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("tabletop", help="write pictures of the embedded world as a data set")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    about = "flawed pictures with masks, phrases and explanations, in the schema of another data set"
    export = actions.add_parser("export", help=about, description=about)
    export.set_defaults(handler=export_pictures)
    export.add_argument("folder", type=Path, metavar="DIR", help="where DIR/SPLIT/images and annotations go")
    export.add_argument("--format", choices=("synthscars",), required=True, help="the schema")
    export.add_argument("--split", default="test", help="which scenes, by their seeds (default: test)")
    export.add_argument(
        "--scenes", type=int, default=DEFAULT_SCENES, metavar="N", help=f"default: {DEFAULT_SCENES}"
    )
    export.add_argument(
        "--with-clean", action="store_true", help="the clean picture of each scene too, as a row without refs"
    )
    add_common(export)


def export_pictures(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion tabletop export`."""
    from defender.synthscars import export
    from flows.files.output import prepare_folder
    from flows.terminal.progress import counting
    from tabletop.held_out import RenderedScenes

    scenes = RenderedScenes(arguments.scenes, arguments.split, decoded=False)
    wanted = [i for i in range(len(scenes)) if i % 2 or arguments.with_clean]
    folder = arguments.folder.expanduser()
    if (folder / arguments.split).exists():
        raise InvalidInput(f"{folder / arguments.split} exists already: choose a new folder")
    prepare_folder(folder)
    with counting("rendering", len(wanted)) as advance:

        def rendered() -> Iterator[Sample]:
            for index in wanted:
                yield scenes[index]
                advance()

        count = export(rendered(), folder, arguments.split)
    written = folder / arguments.split
    if arguments.json:
        print(json.dumps({"folder": str(written), "pictures": count}))
    else:
        print(f"{count} pictures: {written}")
    return 0

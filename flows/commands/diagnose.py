"""`legion diagnose`: what is wrong with this picture?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.commands.options import DEFAULT_OUT, add_common, add_out, add_profile, waiting


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("diagnose", help="what is wrong with this picture?")
    parser.set_defaults(handler=diagnose)
    parser.add_argument("image", type=Path, metavar="IMAGE", help="a PNG, JPEG or WebP file")
    add_profile(parser)
    add_out(parser, "out/diagnose-NAME")
    add_common(parser)


def diagnose(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion diagnose`."""
    from defender.image_files import read_image
    from flows.output import prepare_folder, write_diagnosis

    image = read_image(arguments.image)
    stem = arguments.image.stem
    folder = prepare_folder(arguments.out or DEFAULT_OUT / f"diagnose-{stem}")
    from flows.console import print_diagnosis

    with waiting("loading the defender"):
        from flows import assemble

        defender = assemble.defender(arguments.profile)
    with waiting("looking at the picture"):
        (diagnosis,) = defender.diagnose([image])
    written = write_diagnosis(image, diagnosis, folder, stem)
    if arguments.json:
        print(json.dumps({"image": str(arguments.image), **written}, ensure_ascii=False))
        return 0
    print_diagnosis(diagnosis)
    print(f"overlay: {written['overlay']}")
    return 0

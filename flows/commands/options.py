"""Options, constants and small helpers that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contracts.protocols import Defender
    from flows.assemble import LegionDefender
    from flows.jobs.evaluating import Request
    from memory_bank import SqlMemoryBank

DEFAULT_OUT = Path("out")
DEFAULT_ZOOM = 3
INTERRUPTED = 130


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of every command."""
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object on stdout and nothing else"
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--verbose", action="store_true", help="show what the libraries say")


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """Where results go."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"folder for the report, pictures and masks (default: {default})",
    )


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Which models."""
    parser.add_argument(
        "--profile",
        default="tabletop",
        help="which models: a bundled name or your own .toml (default: tabletop)",
    )


def add_generator(parser: argparse.ArgumentParser) -> None:
    """Who paints, where it is not the profile's generator."""
    parser.add_argument(
        "--generator",
        metavar="PATH|NAME",
        help="paint with this diffusers checkpoint: a folder, or a name on the hub such as org/name",
    )


def generator_path(given: str) -> str:
    """A folder's whole path; a name on the hub as it is."""
    from contracts.hub import hub_name

    folder = Path(given).expanduser()
    return given if hub_name(given) and not folder.exists() else str(folder.resolve())


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Which defender, where it is not the profile's."""
    parser.add_argument(
        "--checkpoint",
        "--defender",
        type=Path,
        metavar="DIR",
        help="another checkpoint than the profile's defender",
    )
    parser.add_argument(
        "--clip",
        metavar="DIR",
        help="where a checkpoint as its authors released it takes CLIP from: a folder, or a name on the hub "
        "such as openai/clip-vit-large-patch14-336",
    )
    parser.add_argument(
        "--sam",
        metavar="FILE",
        help="original SAM weights (.pth), or ORG/NAME/FILE on the hub, where such a checkpoint has none",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (default: the profile's)")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="arithmetic of the network (default: the profile's)",
    )
    parser.add_argument(
        "--4bit",
        dest="four_bit",
        action="store_true",
        help="keep the language model in 4 bits; needs pip install 'legion-studio[4bit]'",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="B", help="pictures examined at once (default: the profile's)"
    )


def add_tiles(parser: argparse.ArgumentParser, about: str) -> None:
    """Whether to look closer."""
    parser.add_argument(
        "--tiles",
        type=_zoom,
        nargs="?",
        const=DEFAULT_ZOOM,
        metavar="ZOOM",
        help=f"{about} ({DEFAULT_ZOOM} if no number is given)",
    )


def add_tile_confidence(parser: argparse.ArgumentParser) -> None:
    """What counts with `add_tiles`, where it is not what was calibrated."""
    parser.add_argument(
        "--tile-confidence",
        type=float,
        metavar="C",
        help="with --tiles, drop what is said less surely than this, 0 to 1 (default: what legion calibrate "
        "--tiles chose, else 0)",
    )


def _zoom(word: str) -> int:
    """The value of --tiles, which is a picture's name where that follows the option."""
    try:
        return int(word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{word!r} is no number: name pictures before --tiles") from None


def add_dataset(parser: argparse.ArgumentParser, split: str) -> None:
    """Which pictures are looked at."""
    from flows.jobs.evaluating import FORMATS

    parser.add_argument(
        "dataset",
        nargs="?",
        type=Path,
        metavar="DATASET",
        help="folder of the data set (none for tabletop, which renders its pictures itself)",
    )
    parser.add_argument("--format", choices=FORMATS, required=True, help="how the data set is laid out")
    parser.add_argument("--split", default=split, help=f"part of the data set (default: {split})")
    parser.add_argument(
        "--limit", type=int, metavar="N", help="at most N pictures, evenly spread over the data set"
    )
    parser.add_argument(
        "--label", choices=("real", "generated"), help="what the pictures of a plain folder are"
    )


def dataset_request(arguments: argparse.Namespace) -> Request:
    """The pictures that `add_dataset`'s options ask for. Raises InvalidInput for a label without a use."""
    from contracts.errors import InvalidInput
    from flows.jobs.evaluating import Request

    if arguments.label and arguments.format != "plain":
        raise InvalidInput(f"--label is for --format plain: {arguments.format} knows what its pictures are")
    known = {"real": True, "generated": False}.get(arguments.label or "")
    return Request(arguments.format, arguments.dataset, arguments.split, arguments.limit, known)


def load_defender(arguments: argparse.Namespace) -> Defender:
    """The defender that `--profile` and `add_checkpoint`'s options name."""
    with waiting("loading the defender"):
        from flows import assemble

        return assemble.defender(arguments.profile, **defender_changes(arguments))


def load_legion(arguments: argparse.Namespace) -> LegionDefender:
    """The same, as the LEGION itself: for those who look inside."""
    with waiting("loading the defender"):
        from flows import assemble

        changes = defender_changes(arguments)
        return assemble.legion(arguments.profile, **{n: v for n, v in changes.items() if "tile" not in n})


def defender_changes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Values of a profile's [defender] by their names, as far as options gave them."""
    values = {
        "path": str(arguments.checkpoint.expanduser().resolve()) if arguments.checkpoint else None,
        "clip": _here_or_on_the_hub(arguments.clip),
        "sam": _here_or_on_the_hub(arguments.sam),
        "device": arguments.device,
        "dtype": arguments.dtype,
        "four_bit": arguments.four_bit or None,
        "batch_size": arguments.batch_size,
        "tiles": getattr(arguments, "tiles", None),
        "tile_confidence": getattr(arguments, "tile_confidence", None),
    }
    return {name: value for name, value in values.items() if value is not None}


def _here_or_on_the_hub(given: str | None) -> str | None:
    """The whole path of what exists; any other name as it is."""
    path = Path(given).expanduser() if given else None
    return str(path.resolve()) if path and path.exists() else given


def waiting(what: str) -> Any:
    """A spinner on stderr while something takes long."""
    from flows.terminal.progress import waiting

    return waiting(what)


def bank() -> SqlMemoryBank:
    """The memory bank that the settings name."""
    from memory_bank import open_memory_bank

    return open_memory_bank()

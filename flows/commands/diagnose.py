"""`legion diagnose`: what is wrong with this picture, these pictures, this folder?"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contracts.errors import InvalidInput
from flows.commands.options import (
    DEFAULT_OUT,
    add_checkpoint,
    add_common,
    add_out,
    add_profile,
    add_tile_confidence,
    add_tiles,
    load_defender,
    waiting,
)

if TYPE_CHECKING:
    from flows.jobs.diagnosing import Examined, Failed, Row


def add(commands: Any) -> None:
    """Register the command."""
    parser = commands.add_parser("diagnose", help="what is wrong with this picture, or a folder of them?")
    parser.set_defaults(handler=diagnose)
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="picture files, or folders of them (without the folders below)",
    )
    add_tiles(parser, "look again at tiles, enlarged up to ZOOM times, for small artifacts, slower")
    add_tile_confidence(parser)
    add_profile(parser)
    add_checkpoint(parser)
    add_out(parser, "out/diagnose-NAME")
    add_common(parser)


def diagnose(arguments: argparse.Namespace, _words: Sequence[str]) -> int:
    """`legion diagnose`. Exit code 1 if a file gave no diagnosis; the others are written all the same."""
    from flows.jobs.diagnosing import picture_paths

    paths = picture_paths(arguments.images)
    if len(paths) == 1 and not arguments.images[0].is_dir():
        return _diagnose_one(paths[0], arguments)
    return _diagnose_many(paths, arguments)


def _diagnose_one(path: Path, arguments: argparse.Namespace) -> int:
    from defender.image_files import read_image
    from flows.files.output import output_folder, write_diagnosis
    from flows.terminal.console import print_diagnosis

    image = read_image(path)
    with output_folder(arguments.out or DEFAULT_OUT / f"diagnose-{path.stem}") as folder:
        defender = load_defender(arguments)
        with waiting("looking at the picture"):
            (diagnosis,) = defender.diagnose([image])
        with _drawing(path):
            written = write_diagnosis(image, diagnosis, folder, path.stem)
    if arguments.json:
        print(json.dumps({"image": str(path), **written}, ensure_ascii=False))
        return 0
    print_diagnosis(diagnosis)
    print(f"overlay: {written['overlay']}")
    return 0


def _diagnose_many(paths: Sequence[Path], arguments: argparse.Namespace) -> int:
    from flows.files.output import output_folder
    from flows.jobs.diagnosing import examine
    from flows.pages.report import flat_settings
    from flows.terminal.progress import counting

    with output_folder(arguments.out or DEFAULT_OUT / f"diagnose-{_name(arguments.images)}") as folder:
        defender = load_defender(arguments)
        with counting("looking at the pictures", len(paths)) as advance:
            album = _Album(paths, folder, advance)
            for result in examine(defender, paths, _batch_size(arguments), album.fail):
                album.keep(result)
        page = album.write_page(_title(arguments.images, len(paths)), flat_settings(defender.describe()))
    _tell(album, page, arguments.json)
    return _tell_failures(album.failures, len(paths))


class _Album:
    """What many pictures leave: files, a place on the page, a line on the terminal; or why there is none."""

    def __init__(self, paths: Sequence[Path], folder: Path, advance: Callable[[], None]) -> None:
        """`advance` is called once for each of `paths`, kept or failed."""
        from flows.jobs.diagnosing import unique_stems
        from flows.pages.overview import Overview

        self.written: list[dict[str, Any]] = []
        self.rows: list[Row] = []
        self.failures: list[Failed] = []
        self._stems = dict(zip(paths, unique_stems(paths), strict=True))
        self._overview = Overview(len(paths))
        self._folder, self._advance = folder, advance

    def keep(self, result: Examined) -> None:
        """One more picture, which fails where it cannot be drawn or written."""
        from flows.files.output import write_diagnosis
        from flows.jobs.diagnosing import Failed, row

        try:
            with _drawing(result.path):
                stem = self._stems[result.path]
                files = write_diagnosis(result.image, result.diagnosis, self._folder, stem)
                self._overview.add(result)
        except InvalidInput as error:
            self.fail(Failed(result.path, str(error)))
            return
        self.written.append({"image": str(result.path), **files})
        self.rows.append(row(result))
        self._advance()

    def fail(self, failed: Failed) -> None:
        """One more file that gave nothing."""
        self._overview.fail(failed)
        self.failures.append(failed)
        self._advance()

    def write_page(self, title: str, settings: Sequence[tuple[str, str]]) -> Path:
        """All pictures on one page."""
        return self._overview.write(self._folder / "overview.html", title, settings)


@contextmanager
def _drawing(path: Path) -> Iterator[None]:
    """Raises InvalidInput in place of what Pillow and the disk say of a picture's overlay and masks."""
    try:
        yield
    except (MemoryError, ValueError, OverflowError) as error:  # of a picture of absurd shape
        reason = f"image {path} cannot be drawn ({type(error).__name__}): use a smaller copy"
        raise InvalidInput(reason) from error
    except OSError as error:
        raise InvalidInput(
            f"what was found in image {path} cannot be written ({error.strerror or error}): rename the "
            "picture, or choose another --out"
        ) from error


def _tell(album: _Album, page: Path, as_json: bool) -> None:
    """The results on stdout."""
    from flows.terminal.console import print_diagnoses

    if not as_json:
        print_diagnoses(album.rows)
        print(f"overview: {page}")
        return
    failed = [{"image": str(failure.path), "reason": failure.reason} for failure in album.failures]
    summary = {"images": album.written, "failures": failed, "overview": str(page)}
    print(json.dumps(summary, ensure_ascii=False))


def _tell_failures(failures: Sequence[Failed], of: int) -> int:
    """List what was not examined on stderr; the exit code."""
    if not failures:
        return 0
    for failure in failures:
        print(f"  {' '.join(failure.reason.split())}", file=sys.stderr)
    print(f"error: {len(failures)} of {of} pictures could not be examined, as listed above", file=sys.stderr)
    return 1


def _batch_size(arguments: argparse.Namespace) -> int:
    """Pictures that are read before the defender sees them; it makes its own batches of them."""
    from flows.profiles.loading import load_profile

    return int(arguments.batch_size or load_profile(arguments.profile).defender.batch_size)


def _name(sources: Sequence[Path]) -> str:
    """The folder's or the picture's own name; `pictures` where there are several."""
    return (sources[0].resolve().stem or "pictures") if len(sources) == 1 else "pictures"


def _title(sources: Sequence[Path], pictures: int) -> str:
    return sources[0].resolve().name if len(sources) == 1 else f"{pictures} pictures"

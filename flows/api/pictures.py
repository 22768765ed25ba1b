"""Pictures that programs sent, or named by a path they may use, under the digest of their bytes.

A picture named by path is copied when the run is submitted: what was submitted is what is repaired, whatever
happens to the file later.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from PIL import Image as Pillow

from contracts.digests import file_sha256
from contracts.errors import InvalidInput
from flows.api.refusals import Refusal, not_found
from flows.files.mask_files import read_mask, read_protected
from flows.files.picture_files import read_picture

DIGEST = re.compile(r"[0-9a-f]{64}")
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
"""What is opened at all. Decoders of other formats start programs or read further files."""
MAX_PATH = 1024
SENT = "what was sent"
"""A picture in messages, which name no path of this machine."""
ABANDONED_SECONDS = 3600.0
"""Age at which nobody is still sending a temporary file."""


@dataclass(frozen=True)
class Kept:
    """A picture that is here."""

    digest: str
    """sha256 of its bytes."""
    path: Path
    width: int
    height: int
    bytes: int


class Pictures:
    """A folder of pictures, bounded in each one's size and in all."""

    def __init__(self, folder: Path, each: int, total: int, allowed: Sequence[Path] = ()) -> None:
        """Bytes at most of one picture and of all; `allowed` are the folders whose files may be named.
        Raises InvalidInput if the folder cannot be made."""
        self._folder, self._each, self._total, self._allowed = folder, each, total, tuple(allowed)
        self._decoding = threading.BoundedSemaphore(2)  # each may need a few hundred megabytes
        self._adding = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"the folder {folder} cannot be made ({error.strerror})") from error
        self._sweep()

    async def receive(self, chunks: AsyncIterator[bytes]) -> Path:
        """Write what a program sends to a temporary file; its path. Raises Refusal for too much of it."""
        size = 0
        with NamedTemporaryFile(dir=self._folder, suffix=".tmp", delete=False) as file:
            try:
                async for chunk in chunks:
                    size += len(chunk)
                    self._check_size(size)
                    file.write(chunk)
            except BaseException:
                os.unlink(file.name)
                raise
        return Path(file.name)

    def keep(self, temporary: Path) -> Kept:
        """Check a received file and keep it under its digest. Raises Refusal if it is no picture, or if there
        is no room."""
        try:
            digest = file_sha256(temporary)
            width, height = self._looked_at(temporary)
            path = self._folder / digest
            with self._adding:
                if not path.exists():
                    self._check_room(temporary.stat().st_size)
                    os.replace(temporary, path)
                os.utime(path)
        finally:
            temporary.unlink(missing_ok=True)
        return Kept(digest, path, width, height, path.stat().st_size)

    def find(self, name: str) -> Kept:
        """A picture by its digest, or by the path of a file in an allowed folder. Raises Refusal."""
        if not DIGEST.fullmatch(name):
            return self.keep(self._copied(name))
        path = self._folder / name
        if not path.is_file():
            raise not_found(f"picture {name[:12]}: send it first")
        with contextlib.suppress(OSError):
            os.utime(path)
        width, height = self._looked_at(path)
        return Kept(name, path, width, height, path.stat().st_size)

    def find_mask(self, name: str, picture: Kept, protected: bool = False) -> Kept:
        """As `find`, for a mask of that picture or of what is protected in it. Raises Refusal."""
        found, read = self.find(name), read_protected if protected else read_mask
        with self._decoding:
            try:
                read(found.path, read_picture(picture.path).image.shape[:2])
            except InvalidInput as error:
                raise Refusal(422, "bad_mask", str(error).replace(f" {found.path}", "")) from error
        return found

    def _copied(self, name: str) -> Path:
        """A temporary copy of a named file. Files outside are refused alike, whether they exist or not."""
        outside = Refusal(
            403,
            "outside",
            "the path is not in a folder that this server may read: send the picture, or start the server "
            "with --allow",
        )
        if len(name) > MAX_PATH or "\0" in name or not Path(name).is_absolute():
            raise outside
        try:
            path = Path(name).resolve()
        except (OSError, RuntimeError, ValueError):
            raise outside from None
        if not any(path.is_relative_to(folder) for folder in self._allowed):
            raise outside
        if not path.is_file():
            raise not_found("file of that name")
        try:
            with (
                open(path, "rb") as source,
                NamedTemporaryFile(dir=self._folder, suffix=".tmp", delete=False) as copy,
            ):
                self._copy(source, copy)  # type: ignore[arg-type]
        except OSError as error:
            raise Refusal(422, "bad_picture", f"the file cannot be read ({error.strerror})") from error
        return Path(copy.name)

    def _copy(self, source: BinaryIO, copy: BinaryIO) -> None:
        size = 0
        try:
            while chunk := source.read(1 << 20):
                size += len(chunk)
                self._check_size(size)
                copy.write(chunk)
        except BaseException:
            os.unlink(copy.name)
            raise

    def _check_size(self, size: int) -> None:
        if size > self._each:
            raise Refusal(413, "too_large", f"a picture may have {self._each:,} bytes: send a smaller one")

    def _check_room(self, size: int) -> None:
        kept = (path for path in self._folder.iterdir() if path.suffix != ".tmp")
        if size + sum(path.stat().st_size for path in kept) > self._total:
            raise Refusal(
                507, "no_room", f"the pictures that were sent fill {self._total:,} bytes: remove old ones"
            )

    def _looked_at(self, path: Path) -> tuple[int, int]:
        """Width and height of a picture that decodes whole."""
        with self._decoding:
            try:
                with Pillow.open(path, formats=_known_formats()):
                    pass
                height, width = read_picture(path).image.shape[:2]
            except InvalidInput as error:
                words = str(error).replace(f"image {path}", SENT).replace(str(path), SENT)
                raise Refusal(422, "bad_picture", words) from error
            except Exception as error:  # decoders raise what they stumble over
                raise Refusal(
                    422, "bad_picture", f"what was sent is no picture: use one of {', '.join(FORMATS)}"
                ) from error
        return width, height

    def _sweep(self) -> None:
        """Remove what a killed process left half received."""
        for path in self._folder.glob("*.tmp"):
            if time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
                path.unlink(missing_ok=True)


def _known_formats() -> list[str]:
    """Those of FORMATS that this machine's Pillow was built with."""
    Pillow.init()
    return [name for name in FORMATS if name in Pillow.OPEN]

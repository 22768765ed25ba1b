"""Pictures and masks under the digest of what they show.

The digest is sha256 over a short header (kind, height, width) and the raw pixels, not over the PNG file. PNG
encoders differ between library versions and machines, so the bytes of a file are no identity: the same
picture painted again after an update would get another name, and a copy recompressed by a tool would look
corrupt. The price is that reading decodes before it can verify, which it has to do anyway.

Layout under the root: `images/ab/abcd....png` (8-bit RGB), `masks/ab/abcd....png` (1 bit) and
`weights/ab/abcd....png` (8-bit gray). A file is
written under a temporary name, flushed to disk and renamed, so that a name that ends in `.png` is always a
whole file. Folders are not flushed, which would double the cost of a commit: a name that a power cut takes
away is found missing when it is read. Object stores such as S3 show an object only when it is whole, so
there it is put under its name at once. A server that goes away is waited for (patience.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import struct
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar, get_args

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from PIL import Image as Pillow

from contracts.errors import InvalidInput, MemoryBankError, StorageUnavailable
from contracts.records import Image, Mask
from memory_bank import patience
from memory_bank.patience import patiently, store_is_away
from memory_bank.places import STORE_VARIABLE, without_password

Kind: TypeAlias = Literal["image", "mask", "weight"]
Pixels: TypeAlias = NDArray[Any]
T = TypeVar("T")

_MODES = {"image": "RGB", "mask": "1", "weight": "L"}
KINDS: tuple[Kind, ...] = get_args(Kind)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"(?P<digest>[0-9a-f]{64})\.png|\.[0-9a-f]{64}\.png\.[0-9a-f]{32}\.tmp")
"""Ours: a whole file, or what a killed process left of one."""
_PUT_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
"""File systems on which a file is seen only when all of it was written."""
ABANDONED_SECONDS = 3600.0
"""Age at which nobody is still writing a temporary file."""
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Pillow.DecompressionBombError,
)


def pixel_digest(kind: Kind, pixels: Pixels) -> str:
    """sha256 in hex over kind, height, width and pixels (of a mask: its bits, packed) of a checked array."""
    height, width = pixels.shape[:2]
    hasher = hashlib.sha256(f"{kind} {height} {width}\n".encode())
    hasher.update(_canonical(kind, pixels).tobytes())
    return hasher.hexdigest()


def encode(kind: Kind, pixels: Pixels) -> bytes:
    """PNG bytes. Light compression: a commit should cost milliseconds, also for large pictures."""
    buffer = io.BytesIO()
    plain = np.where(pixels, 255, 0).astype(np.uint8) if kind == "mask" else np.ascontiguousarray(pixels)
    Pillow.fromarray(plain).convert(_MODES[kind]).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def decode(kind: Kind, content: bytes) -> Pixels:
    """The array in PNG bytes. Raises one of the decoder errors for what `encode` does not write."""
    with Pillow.open(io.BytesIO(content), formats=["PNG"]) as picture:
        if picture.mode != _MODES[kind]:
            raise ValueError(f"a PNG of mode {picture.mode} where {_MODES[kind]} belongs")
        return np.asarray(picture.convert("L")) > 0 if kind == "mask" else np.array(picture)


class Stored(NamedTuple):
    """One file of the store; `digest` is empty for what a killed process left of one."""

    kind: Kind
    digest: str
    path: str
    size: int


class ContentStore:
    """Pictures and masks in a folder or at any fsspec URL. Putting the same content twice keeps one file."""

    def __init__(self, root: str) -> None:
        """Raises MemoryBankError if the folder cannot be made or the URL's file system is not installed."""
        self.root = without_password(root)
        self._answered = False
        try:
            self._fs, self._path = fsspec.core.url_to_fs(root)
        except ImportError as error:
            raise MemoryBankError(
                f"the image store {self.root} needs another package: {_line(error)}"
            ) from error
        except (OSError, ValueError) as error:
            raise self._unusable(error) from error
        self._local = isinstance(self._fs, LocalFileSystem)
        names = self._fs.protocol
        self._atomic = not _PUT_WHOLE.isdisjoint((names,) if isinstance(names, str) else names)
        if self._local:  # elsewhere there are no folders, or they are made with the first file
            try:
                self._fs.makedirs(self._path, exist_ok=True)
            except OSError as error:
                raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> MemoryBankError:
        return MemoryBankError(
            f"the image store {self.root} cannot be used ({_line(error)}); choose a writable folder or "
            f"another URL with {STORE_VARIABLE}"
        )

    def put_image(self, image: Image) -> str:
        """Store a uint8 (H, W, 3) picture durably; its digest. Raises InvalidInput, MemoryBankError."""
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InvalidInput(f"a picture must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
        return self._put("image", image)

    def put_mask(self, mask: Mask) -> str:
        """Store a bool (H, W) mask durably; its digest. Raises InvalidInput, MemoryBankError."""
        if mask.dtype != np.bool_ or mask.ndim != 2 or mask.size == 0:
            raise InvalidInput(f"a mask must be bool (H, W), got {mask.dtype} {mask.shape}")
        return self._put("mask", mask)

    def put_weights(self, weights: NDArray[np.uint8]) -> str:
        """Store uint8 (H, W) weights durably; their digest. Raises InvalidInput, MemoryBankError."""
        if weights.dtype != np.uint8 or weights.ndim != 2 or weights.size == 0:
            raise InvalidInput(f"weights must be uint8 (H, W), got {weights.dtype} {weights.shape}")
        return self._put("weight", weights)

    def image(self, digest: str) -> Image:
        """The uint8 (H, W, 3) picture. Raises MemoryBankError if it is missing or damaged."""
        return self._get("image", digest)

    def mask(self, digest: str) -> Mask:
        """The bool (H, W) mask. Raises MemoryBankError if it is missing or damaged."""
        return self._get("mask", digest)

    def weights(self, digest: str) -> NDArray[np.uint8]:
        """The uint8 (H, W) weights. Raises MemoryBankError if they are missing or damaged."""
        return self._get("weight", digest)

    def path(self, kind: Kind, digest: str) -> str:
        """Where a file of that digest lies. Raises MemoryBankError for text that is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise MemoryBankError(
                f"{digest[:80]!r} is not a picture's digest, which has 64 hexadecimal digits"
            )
        return f"{self._path.rstrip('/')}/{kind}s/{digest[:2]}/{digest}.png"

    def holds(self, kind: Kind, digest: str) -> bool:
        """Whether the content is there and whole. Raises MemoryBankError if that cannot be found out."""
        try:
            self._get(kind, digest)
        except _Lost:
            return False
        return True

    def files(self) -> Iterator[Stored]:
        """Every file of ours under the root; what somebody else put there is passed over.

        A temporary file counts once nobody can still be writing it. Raises MemoryBankError.
        """
        for kind in KINDS:
            folder = f"{self._path.rstrip('/')}/{kind}s"
            try:
                found = self._patient(lambda at=folder: self._fs.find(at, detail=True))  # type: ignore[misc]
            except FileNotFoundError:
                continue
            except Exception as error:
                raise self._away(error) or self._unusable(error) from error
            for path, facts in sorted(found.items()):
                named = _NAME.fullmatch(path.rsplit("/", 1)[-1])
                if named is None or (
                    not named["digest"] and time.time() - _written(facts) < ABANDONED_SECONDS
                ):
                    continue
                yield Stored(kind, named["digest"] or "", path, int(facts.get("size") or 0))

    def remove(self, path: str) -> None:
        """Delete one file of `files`; nothing if it is gone already. Raises MemoryBankError."""
        try:
            self._patient(lambda: self._fs.rm_file(path))
        except FileNotFoundError:
            return
        except Exception as error:
            raise self._away(error) or MemoryBankError(
                f"{path} cannot be removed ({_line(error)})"
            ) from error

    def _patient(self, work: Callable[[], T]) -> T:
        """Whatever it does may be done twice: putting, reading and removing come to the same."""

        def worth(error: Exception) -> float:
            if not store_is_away(error):
                return 0.0
            return patience.AWAY_SECONDS if self._answered else patience.FIRST_SECONDS

        try:
            done = patiently(work, worth)
        except FileNotFoundError:
            self._answered = True
            raise
        self._answered = True
        return done

    def _away(self, error: Exception) -> StorageUnavailable | None:
        """The error in words, if its server did not answer."""
        if not store_is_away(error):
            return None
        return StorageUnavailable(
            f"the image store {self.root} does not answer ({_line(error)[:200]}); start it, or choose "
            f"another with {STORE_VARIABLE}, then resume"
        )

    def _put(self, kind: Kind, pixels: Pixels) -> str:
        digest = pixel_digest(kind, pixels)
        path = self.path(kind, digest)
        if not self.holds(kind, digest):  # a damaged file counts as absent and is written anew
            try:
                content = encode(kind, pixels)
                self._patient(lambda: self._write(path, content))
            except Exception as error:  # a remote file system raises its client's own errors
                raise self._away(error) or MemoryBankError(
                    f"{path} cannot be written ({_line(error)}); free space or choose another image store "
                    f"with {STORE_VARIABLE}"
                ) from error
        return digest

    def _get(self, kind: Kind, digest: str) -> Pixels:
        path = self.path(kind, digest)
        remedy = "restore it from a copy, or start the run again under a new id"
        try:
            content = self._patient(lambda: self._fs.cat_file(path))
        except FileNotFoundError:
            raise _Lost(f"the {kind} {path} is missing; {remedy}") from None
        except Exception as error:  # a remote file system raises its client's own errors
            raise self._away(error) or MemoryBankError(
                f"the {kind} {path} cannot be read ({_line(error)}); make it readable, then try again"
            ) from error
        try:
            pixels = decode(kind, content)
        except _DECODE_ERRORS as error:
            raise _Lost(f"the {kind} {path} is damaged ({_line(error)}); {remedy}") from error
        if pixel_digest(kind, pixels) != digest:
            raise _Lost(f"the {kind} {path} does not show what was stored; {remedy}")
        return pixels

    def _write(self, path: str, content: bytes) -> None:
        if self._atomic:
            self._fs.pipe_file(path, content)
            return
        folder, name = path.rsplit("/", 1)
        temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            with self._fs.open(temporary, "wb") as file:
                file.write(content)
                if self._local:
                    file.flush()
                    os.fsync(file.fileno())
            if self._local:
                os.replace(temporary, path)  # also over a damaged file, and on Windows
            else:
                self._fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self._fs.rm_file(temporary)
            raise


class _Lost(MemoryBankError):
    """The content is not there, or not whole."""


def _written(facts: dict[str, Any]) -> float:
    """When a file was written, in seconds since 1970, as far as its file system tells; else long ago."""
    moment = facts.get("mtime") or facts.get("LastModified") or 0.0
    return float(moment.timestamp() if hasattr(moment, "timestamp") else moment)


def _canonical(kind: Kind, pixels: Pixels) -> Pixels:
    # Pillow hands out bool arrays whose true bytes are 255; packing makes every true the same.
    return np.packbits(pixels) if kind == "mask" else np.ascontiguousarray(pixels)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

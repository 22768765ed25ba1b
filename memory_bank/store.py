"""Pictures and masks under the digest of what they show.

The digest is sha256 over a short header (kind, height, width) and the raw pixels, not over the PNG file. PNG
encoders differ between library versions and machines, so the bytes of a file are no identity: the same
picture painted again after an update would get another name, and a copy recompressed by a tool would look
corrupt. The price is that reading decodes before it can verify, which it has to do anyway.

Layout under the root: `images/ab/abcd....png` (8-bit RGB), `masks/ab/abcd....png` (1 bit) and
`weights/ab/abcd....png` (8-bit gray). A file is
written under a temporary name, flushed to disk and renamed, so that a name that ends in `.png` is always a
whole file. Folders are not flushed, which would double the cost of a commit: a name that a power cut takes
away is found missing when it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import struct
import uuid
import zlib
from typing import Any, Literal, TypeAlias

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray
from PIL import Image as Pillow

from contracts.errors import InvalidInput, MemoryBankError
from contracts.records import Image, Mask

Kind: TypeAlias = Literal["image", "mask", "weight"]
Pixels: TypeAlias = NDArray[Any]

_MODES = {"image": "RGB", "mask": "1", "weight": "L"}
_DIGEST = re.compile(r"[0-9a-f]{64}")
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


class ContentStore:
    """Pictures and masks in a folder or at any fsspec URL. Putting the same content twice keeps one file."""

    def __init__(self, root: str) -> None:
        """Raises MemoryBankError if the folder cannot be made or the URL's file system is not installed."""
        self.root = root
        try:
            self._fs, self._path = fsspec.core.url_to_fs(root)
            self._fs.makedirs(self._path, exist_ok=True)
        except ImportError as error:
            raise MemoryBankError(f"the image store {root} needs another package: {_line(error)}") from error
        except (OSError, ValueError) as error:
            raise MemoryBankError(
                f"the image store {root} cannot be used ({_line(error)}); choose a writable folder"
            ) from error
        self._local = isinstance(self._fs, LocalFileSystem)

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

    def _put(self, kind: Kind, pixels: Pixels) -> str:
        digest = pixel_digest(kind, pixels)
        path = self.path(kind, digest)
        if not self._holds(kind, digest):
            try:
                self._write(path, encode(kind, pixels))
            except OSError as error:
                raise MemoryBankError(
                    f"{path} cannot be written ({_line(error)}); free space or choose another image store"
                ) from error
        return digest

    def _holds(self, kind: Kind, digest: str) -> bool:
        """Whether the content is there and whole; a damaged file counts as absent and is written anew."""
        try:
            self._get(kind, digest)
        except MemoryBankError:
            return False
        return True

    def _get(self, kind: Kind, digest: str) -> Pixels:
        path = self.path(kind, digest)
        remedy = "restore it from a copy, or start the run again under a new id"
        try:
            content = self._fs.cat_file(path)
        except FileNotFoundError:
            raise MemoryBankError(f"the {kind} {path} is missing; {remedy}") from None
        except OSError as error:
            raise MemoryBankError(f"the {kind} {path} cannot be read ({_line(error)}); {remedy}") from error
        try:
            pixels = decode(kind, content)
        except _DECODE_ERRORS as error:
            raise MemoryBankError(f"the {kind} {path} is damaged ({_line(error)}); {remedy}") from error
        if pixel_digest(kind, pixels) != digest:
            raise MemoryBankError(f"the {kind} {path} does not show what was stored; {remedy}")
        return pixels

    def _write(self, path: str, content: bytes) -> None:
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
            with contextlib.suppress(OSError):
                self._fs.rm_file(temporary)
            raise


def _canonical(kind: Kind, pixels: Pixels) -> Pixels:
    # Pillow hands out bool arrays whose true bytes are 255; packing makes every true the same.
    return np.packbits(pixels) if kind == "mask" else np.ascontiguousarray(pixels)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__

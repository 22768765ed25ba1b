"""sha256 of what is read piece by piece: files too large for the memory, and streams."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

_BLOCK = 1 << 20


def sha256_of(pieces: Iterable[bytes | memoryview]) -> str:
    """64 hexadecimal digits of all pieces, one after the other."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def blocks(path: Path) -> Iterator[bytes]:
    """The content of a file, a block at a time. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block


def file_sha256(path: Path) -> str:
    """64 hexadecimal digits of a file's content. Raises OSError if it cannot be read."""
    return sha256_of(blocks(path))

"""What weights a folder holds: the digest that a record keeps of them. Loads nothing heavy."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from contracts.errors import CheckpointError


def weights_digest(folder: Path | str) -> str:
    """Short sha256 over the names and contents of all safetensors files below a folder, or of its .bin files
    if it has no others; its place does not count.

    Read once per process as long as the files stay as they are. Raises CheckpointError if there are none or
    they cannot be read.
    """
    root = Path(folder)
    try:
        files = sorted(root.rglob("*.safetensors")) or sorted(root.rglob("*.bin"))
        marks = tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files)
        if not files:
            raise CheckpointError(f"there are no weights in {root}: no .safetensors or .bin file is in it")
        return _digest(root, marks)
    except OSError as error:
        raise CheckpointError(f"the weights in {root} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=64)
def _digest(root: Path, marks: tuple[tuple[str, int, int], ...]) -> str:
    # Size and time of every file are part of the key, so that a file that was written anew is read anew.
    content = hashlib.sha256()
    for path, _, _ in marks:
        content.update(Path(path).relative_to(root).as_posix().encode())
        with open(path, "rb") as file:
            content.update(hashlib.file_digest(file, "sha256").digest())
    return content.hexdigest()[:12]


def file_digest(path: Path | str) -> str:
    """Short sha256 over the content of one file; its name and place do not count.

    Read once per process as long as the file stays as it is. Raises CheckpointError if it cannot be read.
    """
    file = Path(path)
    try:
        state = file.stat()
        return _file_digest(file, state.st_size, state.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"the weights in {file} cannot be read: {error.strerror or error}") from error


@lru_cache(maxsize=64)
def _file_digest(file: Path, _size: int, _time: int) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:12]

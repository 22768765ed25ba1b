"""What weights a folder holds: the digest that a record keeps of them. Loads nothing heavy."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from contracts.errors import CheckpointError


def how_to_get(name: str, variant: str = "") -> str:
    """The command that downloads what is loaded of a pipeline on the hub, and no more."""
    repo, _, revision = name.partition("@")
    weights = (
        [f'"*/*.{variant}.safetensors" "*/*.{variant}-*.safetensors"'] if variant else ['"*/*.safetensors"']
    )
    settings = '"*.json" "*/*.json" "*/*.txt" "*/*.model"'
    where = f" --revision {revision}" if revision else ""
    # Some repositories hold their text encoders a second time, for another program.
    return f'hf download {repo}{where} --include {settings} {" ".join(weights)} --exclude "text_encoders/*"'


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
        content.update(_sha256(Path(path)))
    return content.hexdigest()[:12]


def _sha256(file: Path) -> bytes:
    """Of the file's content. The hub's cache names a large file by just that: tens of GB need not be read."""
    blob = file.resolve()
    if file.is_symlink() and blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
        return bytes.fromhex(blob.name)
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


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

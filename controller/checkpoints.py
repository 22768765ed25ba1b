"""What weights a folder holds: the digest that a record keeps of them. Loads nothing heavy."""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from contracts.digests import file_sha256
from contracts.errors import CheckpointError

INDEX = "model_index.json"
"""What makes a folder a diffusers pipeline: its parts and their classes."""
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})")


def how_to_get(name: str, variant: str = "") -> str:
    """The command that downloads what is loaded of a pipeline on the hub."""
    repo, _, revision = name.partition("@")
    included = ["*.json", "*.txt", "*.model", f"*/*.{variant}*.safetensors" if variant else "*/*.safetensors"]
    # Text encoders a second time for other programs, another autoencoder, and weights in other precisions.
    excluded = ["text_encoders/*", "vae_1_0/*", *([] if variant else ["*/*.*.safetensors"])]
    options = [f"--revision {revision}"] if revision else []
    # One option for each pattern: the client takes further words for names of files, and then no patterns.
    options += [f'--include "{pattern}"' for pattern in included]
    options += [f'--exclude "{pattern}"' for pattern in excluded]
    return " ".join(["hf download", repo, *options])


def lacks_of_pipeline(folder: Path, variant: str = "") -> str:
    """What a diffusers folder lacks to be loaded, empty if nothing: settings and weights of every model, all
    shards, whole. With a variant its files count, or, of a model that has none, the plain ones."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        models = [name for name, kind in index.items() if isinstance(kind, list) and _is_model(kind)]
    except (OSError, ValueError, AttributeError):
        return f"{INDEX} is missing or damaged"
    found = {name: _weights(folder / name, variant) for name in models}
    for name, files in found.items():
        if not (folder / name / "config.json").is_file():
            return f"{name}/config.json is missing"
        if problem := _problem(files):
            return f"{name}: {problem}"
    named = any(_is_of(variant, file) for files in found.values() for file in files)
    return f"the files of the variant {variant} are missing" if variant and not named else ""


def whole(file: Path) -> bool:
    """Has a file all of its bytes, as far as it tells? Empty ones have not."""
    try:
        size = file.stat().st_size
        if file.suffix != ".safetensors" or size < 8:
            return size > 0
        with open(file, "rb") as content:
            (length,) = struct.unpack("<Q", content.read(8))
            if length > size - 8:
                return False
            header = json.loads(content.read(length))
    except (OSError, ValueError):
        return False
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return bool(size == 8 + length + max(ends, default=0))


def _weights(folder: Path, variant: str) -> list[Path]:
    """The files of one model that would be loaded."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    own = [file for file in files if variant and _is_of(variant, file)]
    return own or [file for file in files if file.name.count(".") == 1]


def _is_of(variant: str, file: Path) -> bool:
    """As in `model.fp16.safetensors` and `model.fp16-00001-of-00002.safetensors`."""
    return f".{variant}." in file.name or f".{variant}-" in file.name


def _problem(files: Sequence[Path]) -> str:
    if not files:
        return "the weights are missing"
    shards = [match for file in files if (match := _SHARD.search(file.stem))]
    if shards and len(shards) < int(shards[0]["count"]):
        return f"{len(shards)} of {int(shards[0]['count'])} files of weights are there"
    cut = [file.name for file in files if not whole(file)]
    return f"{cut[0]} is cut short" if cut else ""


def _is_model(kind: Sequence[object]) -> bool:
    """Parts with weights: not tokenizers, schedulers and preprocessors, nor what a pipeline goes without."""
    words = ("Tokenizer", "Scheduler", "Processor", "Extractor")
    return len(kind) > 1 and bool(kind[0]) and not any(word in str(kind[1]) for word in words)


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
    return bytes.fromhex(file_sha256(file))


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
    return file_sha256(file)[:12]

"""Files of named weights, read and written one tensor at a time: safetensors, and other people's pickles.

Pickles are opened with `weights_only=True`, so code inside one is refused and never runs. Nothing here holds
more than one file's map and one tensor, whatever the size of the checkpoint.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from contracts.errors import CheckpointError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""Types by their names in a safetensors header."""

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_FLOAT8 = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
"""Types that are recognized, to be refused by their names."""
_FRACTIONS = frozenset({torch.float64, torch.float32, torch.float16, torch.bfloat16})
"""Types that a network can be stored in."""
_MAPPED_AT_ONCE = 1 << 24
"""Bytes that are read from one map of a pickle."""

LAYOUTS = (
    ("model.safetensors.index.json", "model.safetensors"),
    ("pytorch_model.bin.index.json", "pytorch_model.bin"),
)
"""Names of an index of shards, and of the one file in its place, in Hugging Face's layout."""


@dataclass(frozen=True)
class Stored:
    """A tensor that has not been read yet."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    source: str
    """What to call the place it comes from, for a message."""
    read: Callable[[], Tensor]

    @property
    def bytes(self) -> int:
        """Size of the numbers themselves."""
        return prod(self.shape) * self.dtype.itemsize


def open_folder(folder: Path) -> dict[str, Stored]:
    """All weights of a folder in Hugging Face's layout: one file, or shards with an index; pickle or not.

    Raises CheckpointError, in one line, on a missing shard or a file that cannot be used.
    """
    for index_name, single in LAYOUTS:
        if (folder / index_name).exists():
            return _open_shards(folder, folder / index_name)
        if (folder / single).exists():
            return open_file(folder / single)
    raise CheckpointError(
        f"{folder} has no weights (model.safetensors, pytorch_model.bin or an index of shards): "
        "is it a checkpoint folder?"
    )


def has_weights(folder: Path) -> bool:
    """Whether a folder has all files of weights that `open_folder` would open; they are not read."""
    for index, single in LAYOUTS:
        if (folder / index).exists():
            try:
                return bool(_placed(folder, folder / index))
            except CheckpointError:
                return False
        if (folder / single).exists():
            return True
    return False


def open_file(path: Path) -> dict[str, Stored]:
    """The weights of one file, by name. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"cannot read {path} (no such file): get the checkpoint again")
    return _open_safetensors(path) if path.suffix == ".safetensors" else _open_pickle(path)


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    """Write `serialized` tensors to a file, which gets its name only when whole. Raises CheckpointError as
    that does, and before anything is written.
    """
    unfinished = path.with_name(path.name + ".tmp")
    pieces = serialized(tensors)
    with unfinished.open("wb") as file:
        file.writelines(pieces)
    unfinished.replace(path)
    _load_pickle.cache_clear()


def serialized(tensors: Mapping[str, Stored]) -> Iterator[bytes | memoryview]:
    """The content of a safetensors file of `tensors`, piece by piece; each is read when its turn comes.

    Wide types come first, so that every tensor lies at a multiple of its own item size. Raises
    CheckpointError, before the first piece, on a type that no checkpoint of this project has.
    """
    if odd := [f"{name} {_type_name(s.dtype)}" for name, s in tensors.items() if s.dtype not in _NAMES]:
        raise CheckpointError(
            f"cannot write {complaint('of an unknown type', odd)}: convert to bfloat16 first"
        )
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        stored = tensors[name]
        begin, end = end, end + stored.bytes
        header[name] = {
            "dtype": _NAMES[stored.dtype],
            "shape": list(stored.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return chain([len(text).to_bytes(8, "little") + text], (_content(tensors[name]) for name in order))


def _content(stored: Stored) -> memoryview:
    """The bytes of one tensor, in the order in which they are stored."""
    return stored.read().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _placed(folder: Path, index: Path) -> dict[str, str]:
    """The file of each weight, as an index of shards says. Raises CheckpointError if one is not there."""
    try:
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted(set(placed.values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is not an index of shards: get the checkpoint again") from error
    if strange := [name for name in files if not isinstance(name, str) or Path(name).name != name]:
        raise CheckpointError(f"{index} names a shard outside its folder ({strange[0]}): refused")
    if missing := [name for name in files if not (folder / name).is_file()]:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} of {len(files)} shards ({', '.join(missing)}): get them again"
        )
    return dict(placed)


def _open_shards(folder: Path, index: Path) -> dict[str, Stored]:
    placed = _placed(folder, index)
    found: dict[str, Stored] = {}
    for name in sorted(set(placed.values())):
        found.update(open_file(folder / name))
    if absent := sorted(set(placed) - set(found)):
        raise CheckpointError(
            f"{folder}: {len(absent)} weights of the index are in no shard ({', '.join(absent)}): "
            "download the shards again"
        )
    return found


def _open_safetensors(path: Path) -> dict[str, Stored]:
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            return {
                name: Stored(
                    tuple(part.get_shape()),
                    (DTYPES | _FLOAT8).get(part.get_dtype(), torch.uint8),
                    path.name,
                    _safetensors_reader(path, name),
                )
                for name, part in slices.items()
            }
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): get the checkpoint again") from error


def _safetensors_reader(path: Path, name: str) -> Callable[[], Tensor]:
    def read() -> Tensor:
        # The file is opened for each tensor: a map that stayed open would keep all pages it ever touched.
        with safe_open(path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(name)
        return tensor

    return read


def _open_pickle(path: Path) -> dict[str, Stored]:
    tensors, file = _load_pickle(path), _Pickle(path)
    return {
        name: Stored(tuple(tensor.shape), tensor.dtype, path.name, partial(file.read, name))
        for name, tensor in tensors.items()
    }


class _Pickle:
    """Hands out the tensors of a file, from a map that is made anew now and then.

    Pages of a map stay resident as long as it is open: with one for all, tensors that are converted as they
    are read would be there twice.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._mapped, self._handed_out = path, zipfile.is_zipfile(path), 0

    def read(self, name: str) -> Tensor:
        tensor = _load_pickle(self._path)[name]
        self._handed_out += tensor.nbytes
        if self._mapped and self._handed_out > _MAPPED_AT_ONCE:
            _load_pickle.cache_clear()
            self._handed_out = 0
        return tensor


@lru_cache(maxsize=1)
def _load_pickle(path: Path) -> dict[str, Tensor]:
    """A flat dictionary of tensors, mapped rather than read where the file's format allows it."""
    mapped = zipfile.is_zipfile(path)  # files of torch < 1.6 are no zip archives and cannot be mapped
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds code or objects other than weights, which could do anything: refused"
        ) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged or not a torch file: get the checkpoint again") from error
    if not isinstance(content, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise CheckpointError(f"{path} is not a plain dictionary of named tensors: save its state_dict alone")
    return content


def misfits(expected: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What keeps `given` from filling `expected` (values with shape and dtype); empty if it fits.

    Lists every missing and unexpected name, every other shape, and every type that holds no fractions, or
    too few of them (8 bits).
    """
    both = [name for name in expected if name in given]
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in both
        if tuple(given[name].shape) != tuple(expected[name].shape)
    ]
    types = [
        f"{name} {_type_name(given[name].dtype)}"
        for name in both
        if expected[name].dtype.is_floating_point and given[name].dtype not in _FRACTIONS
    ]
    complaints = [
        complaint("missing", [name for name in expected if name not in given]),
        complaint("unexpected", [name for name in given if name not in expected]),
        complaint("of another shape", shapes),
        complaint("not of a floating type of 16 bits or more", types),
    ]
    return "; ".join(filter(None, complaints))


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def complaint(what: str, names: Iterable[str]) -> str:
    """`2 missing (a, b)`, or nothing where there are no names."""
    listed = list(names)
    return f"{len(listed)} {what} ({', '.join(listed)})" if listed else ""

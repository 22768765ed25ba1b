"""Reading files of weights that others wrote, and filling a network with them: whole, or not at all."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.utils import logging as transformers_logging

from contracts.errors import CheckpointError, InvalidInput

Dtype: TypeAlias = Literal["float32", "bfloat16", "float16"]
Tensors: TypeAlias = Mapping[str, torch.Tensor]

LISTED = 12
"""Tensor names that an error lists of each sort; a thousand would hide what they have in common."""
WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts put the weights."""


@dataclass(frozen=True)
class Source:
    """Where a weight of a network comes from: a tensor of the file, and what is made of it."""

    name: str
    take: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor


def torch_dtype(name: str) -> torch.dtype:
    """Raises InvalidInput for a name that is none."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise InvalidInput(f"dtype {name!r} is not known: choose one of {', '.join(known)}")
    return known[name]


def torch_device(name: str) -> torch.device:
    """Raises InvalidInput if this machine has no such device."""
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        cause = " ".join(str(error).split())[:120]
        raise InvalidInput(f"device {name!r} cannot be used here ({cause}): choose 'cpu'") from error
    return device


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name of a .safetensors file or a pickle of torch's, which is opened for weights only.

    Raises CheckpointError if it cannot be read, or holds anything besides tensors: code in it does not run.
    """
    if not path.is_file():
        what = "is a folder: name the file in it" if path.is_dir() else "does not exist (see docs/scorers.md)"
        raise CheckpointError(f"the file of weights {path} {what}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        archive = zipfile.is_zipfile(path)
        if not archive and not _is_pickle(path):
            raise CheckpointError(
                f"{path} is no file of weights, perhaps a page or a pointer in its place: download it again"
            )
        raw = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than weights and was not opened: use the file that holds weights only"
        ) from error
    except (OSError, RuntimeError, ValueError, EOFError, SafetensorError) as error:
        cause = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path} cannot be read ({cause}): download it again") from error
    for key in WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
    if not isinstance(raw, Mapping) or not raw or not all(torch.is_tensor(t) for t in raw.values()):
        raise CheckpointError(f"{path} is no table of weights by name: it is not the file that is asked for")
    return {str(name): tensor for name, tensor in raw.items()}


def fill(
    build: Callable[[], nn.Module],
    source: Callable[[str], Source],
    tensors: Tensors,
    *,
    dtype: torch.dtype,
    device: torch.device,
    what: str,
    unused: Callable[[str], bool] = lambda name: False,
) -> nn.Module:
    """The network that `build` makes, with every weight taken from `tensors`, ready to use.

    `source` says where a weight of the network comes from; `unused` names tensors that may be left over. The
    weights are held once: the network is laid out without memory of its own. Raises CheckpointError that
    lists, in the file's own names, what is missing, left over, or of another shape.
    """
    with torch.device("meta"):
        network = build()
    weights, missing, misshapen, used = {}, set(), [], set()
    for name, wanted in network.state_dict().items():
        origin = source(name)
        used.add(origin.name)
        if origin.name not in tensors:
            missing.add(origin.name)
            continue
        weight = origin.take(tensors[origin.name])
        if weight.shape != wanted.shape:
            misshapen.append(
                f"{origin.name} ({_shape(tensors[origin.name])} gives {_shape(weight)}, needed is "
                f"{_shape(wanted)})"
            )
            continue
        weights[name] = weight.to(device, dtype).contiguous()
    if len(missing) == len(used):
        raise CheckpointError(f"{what} does not fit, none of its tensors is expected: is it another model's?")
    left_over = [name for name in tensors if name not in used and not unused(name)]
    _refuse(what, missing=sorted(missing), unknown=sorted(left_over), misshapen=misshapen)
    network.load_state_dict(weights, strict=True, assign=True)
    _lay_out_positions(network, device)
    return network.train(False).requires_grad_(False)


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no tables of transformers on stderr; what a person must know is raised as an error."""
    library: Any = transformers_logging
    bars, verbosity = library.is_progress_bar_enabled(), library.get_verbosity()
    try:
        library.disable_progress_bar()
        library.set_verbosity_error()
        yield
    finally:
        library.set_verbosity(verbosity)
        if bars:
            library.enable_progress_bar()


def _is_pickle(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(1) == pickle.PROTO


def _refuse(what: str, **faults: Sequence[str]) -> None:
    if not any(faults.values()):
        return
    parts = [f"{len(names)} {kind}: {_listed(names)}" for kind, names in faults.items() if names]
    raise CheckpointError(f"{what} does not fit, its tensors are not those expected; {'; '.join(parts)}")


def _listed(names: Sequence[str]) -> str:
    more = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(str(length) for length in tensor.shape) or "scalar"


def _lay_out_positions(network: nn.Module, device: torch.device) -> None:
    """The one kind of buffer that no file holds: 0, 1, 2, ... for the position embeddings."""
    for name, buffer in list(network.named_buffers()):
        if not buffer.is_meta:
            continue
        assert name.endswith("position_ids"), name
        owner, _, leaf = name.rpartition(".")
        numbers = torch.arange(buffer.shape[-1], device=device).expand(buffer.shape)
        setattr(network.get_submodule(owner), leaf, numbers)

"""The language model's matrices in four bits (NF4, arXiv 2305.14314), by the optional package bitsandbytes.

Only the LLaMA's linear layers are packed: they are most of the 8B checkpoint, and the ones the method was
made for. Both picture towers, the projector, SAM and the heads keep the type that was asked for. Each matrix
is packed as soon as it is read, so no more than one is ever held whole.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator, Mapping
from types import ModuleType

import torch
from torch import nn

from contracts.errors import InvalidInput
from defender.model import Legion
from defender.tensor_files import Stored

BLOCK = 64
"""Weights that share a scale. Rows that are no multiple of it stay as they are: on a CPU bitsandbytes 0.50
gives wrong products for those."""


def library() -> ModuleType:
    """bitsandbytes. Raises InvalidInput if it is missing or does not load."""
    # On import it may say on CPUs which optional kernels it would like; nobody here can use that.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    try:
        return importlib.import_module("bitsandbytes")
    except ImportError as error:
        raise InvalidInput(
            "4-bit loading needs bitsandbytes: run pip install 'legion-studio[4bit]', or leave it off"
        ) from error
    except (OSError, RuntimeError) as error:
        raise InvalidInput(
            f"bitsandbytes does not load here ({_first_line(error)}): leave 4-bit loading off"
        ) from error


def pack(
    model: Legion, weights: Mapping[str, Stored], device: torch.device, dtype: torch.dtype
) -> frozenset[str]:
    """Read the LLaMA's matrices from `weights` and put them into `model`, packed and on `device`.

    `dtype` is the type products are computed in. Returns the names that were taken. Raises InvalidInput
    without bitsandbytes, and where it cannot work on this device.
    """
    found = library()
    taken = []
    for name, layer in list(packable(model)):
        packed = found.nn.Linear4bit(
            layer.in_features,
            layer.out_features,
            bias=False,
            compute_dtype=dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        whole = weights[f"{name}.weight"].read()
        try:
            packed.weight = found.nn.Params4bit(
                whole.to(dtype), requires_grad=False, quant_type="nf4", compress_statistics=True
            ).to(device)
        except (RuntimeError, NotImplementedError, AttributeError) as error:
            raise InvalidInput(
                f"bitsandbytes cannot work on {device} ({_first_line(error)}): leave 4-bit loading off"
            ) from error
        model.set_submodule(name, packed)
        taken.append(f"{name}.weight")
    return frozenset(taken)


def packable(model: Legion) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers of the LLaMA whose rows are whole blocks, with their names in the network."""
    for name, layer in model.model.layers.named_modules():
        if isinstance(layer, nn.Linear) and layer.bias is None and layer.in_features % BLOCK == 0:
            yield f"model.layers.{name}", layer


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]

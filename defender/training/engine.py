"""Where a training runs: accelerate's processes and devices, and what a device wants of the network."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, DistributedType, parse_flag_from_env
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute
from transformers import PreTrainedModel

from defender.model import Legion
from defender.training.schedule import Schedule

SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED)
"""Ways to train in which no process holds the whole network."""

PATIENCE = timedelta(hours=4)
"""How long processes wait for each other: the main one alone reads a whole data set for broken pictures."""


def processes() -> PartialState:
    """This process's place among those of the training.

    accelerate has to be told where there is no accelerator: started by torchrun on a CPU, the processes would
    otherwise not know of each other, and each train alone.
    """
    return PartialState(cpu=_on_a_cpu(), timeout=PATIENCE)


def make_accelerator(
    schedule: Schedule, tracker: str | None, folder: Path, every_parameter_used: bool
) -> Accelerator:
    """For one run. `every_parameter_used` says that no pass leaves a trained parameter out.

    The stages of one process may differ in precision, so the last run's choice is dropped.
    """
    processes()
    AcceleratorState._reset_state()
    return Accelerator(
        cpu=_on_a_cpu(),
        mixed_precision="bf16" if schedule.bf16 else "no",
        gradient_accumulation_steps=schedule.accumulation,
        log_with=tracker,
        project_dir=str(folder),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=not every_parameter_used)],
    )


def _on_a_cpu() -> bool:
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def tell_deepspeed(accelerator: Accelerator, part: int) -> None:
    """DeepSpeed wants the batch size of a process, which accelerate would read off a data loader."""
    plugin = accelerator.state.deepspeed_plugin if accelerator.distributed_type in SHARDED else None
    if plugin is not None:
        plugin.deepspeed_config["train_micro_batch_size_per_gpu"] = part


def suit_a_cpu(modules: nn.Module) -> None:
    """Plain matrix products, for fused attention's backward pass is slow there; no denormal numbers."""
    torch.set_flush_denormal(True)  # underflowing gradients would cost a CPU ten times the arithmetic
    for module in modules.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")


def save_memory(network: Legion) -> None:
    """Gradient checkpointing of LLaMA, of CLIP, and of SAM's encoder where it is trained."""
    network.model.gradient_checkpointing_enable({"use_reentrant": False})
    encoder = network.model.grounding_encoder.image_encoder
    if any(p.requires_grad for p in encoder.parameters()):
        for block in encoder.blocks:
            if not isinstance(block.forward, partial):
                block.forward = partial(recompute, block.forward, use_reentrant=False)


def to_device(value: Any, device: torch.device) -> Any:
    """Every tensor of a batch on `device`; the batch itself where it is there already."""
    if device.type == "cpu":
        return value
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, tuple):
        return tuple(to_device(item, device) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return value

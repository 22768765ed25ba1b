"""What a resume needs, on disk: FOLDER/NAME.step-000120/, written beside and moved into place when whole.

trained.safetensors       every trained weight by name (under FSDP and DeepSpeed: accelerate's own files)
optimizer.bin             AdamW's moments
custom_checkpoint_0.pkl   step, seconds, moving average, best validation, the unfinished line of the log
begun.json                what the run was begun with; a run with other settings is refused
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from contracts.errors import CheckpointError

_UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError)
TRAINED, BEGUN, PROGRESS = "trained.safetensors", "begun.json", "custom_checkpoint_0.pkl"


@dataclass
class Standing:
    """Where a run stands beside its weights. accelerate keeps it with the rest."""

    step: int = 0
    seconds: float = 0.0
    """Training time of all sittings."""
    validated: int = -1
    """Step of the last validation."""
    best: float | None = None
    """Least validation loss so far."""
    window: list[dict[str, float]] = field(default_factory=list)
    """Steps since the last line of the log."""
    average: dict[str, Tensor] = field(default_factory=dict)
    """Moving average of the trained weights, if there is one."""

    def state_dict(self) -> dict[str, Any]:
        """For accelerate."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """For accelerate. The average's tensors are filled in place: they may be on another device."""
        for name, value in state.items():
            if name != "average":
                setattr(self, name, value)
        for name, value in state["average"].items():
            self.average[name].copy_(value)


def trained(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that are trained, by name."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def keep_only_trained(accelerator: Accelerator) -> None:
    """Let accelerate save and load the trained weights alone, under names that no wrapper changes.

    The frozen ones come from the checkpoint that the training starts from, and are most of a large network.
    Sharded models (FSDP, DeepSpeed) have files of their own and do not pass here.
    """

    def save(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
        if weights and accelerator.is_main_process:
            ours = trained(accelerator.unwrap_model(models[0]))
            values = {name: p.detach().contiguous() for name, p in ours.items()}
            save_file(values, Path(folder) / TRAINED)
        weights.clear()

    def load(models: list[nn.Module], folder: str) -> None:
        if models:
            values = load_file(Path(folder) / TRAINED)
            with torch.no_grad():
                for name, parameter in trained(accelerator.unwrap_model(models[0])).items():
                    parameter.copy_(values[name])
        models.clear()

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def save(accelerator: Accelerator, folder: Path, name: str, step: int, begun: Mapping[str, Any]) -> None:
    """Write the state of this step and remove older ones. All processes call this together. A state that is
    there already stays: it is of the same step of the same run, and to replace it would leave a moment with
    none."""
    target = folder / f"{name}.step-{step:06d}"
    partial = folder / f"{name}.unfinished"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / BEGUN).write_text(json.dumps(begun), encoding="utf-8")
        if target.exists():
            shutil.rmtree(partial)
        else:
            partial.rename(target)
        for old in _states(folder, name):
            if old != target:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def resume(accelerator: Accelerator, folder: Path, name: str, begun: Mapping[str, Any]) -> bool:
    """Load the newest state, if there is one.

    Raises CheckpointError, in one line, where it is of another network or of other settings, or broken.
    """
    states = _states(folder, name)
    if not states:
        return False
    newest = states[-1]
    _compare(newest, begun)
    try:
        accelerator.load_state(str(newest))
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{newest} cannot be read ({' '.join(str(error).split())[:200]}): remove it to start anew"
        ) from error
    accelerator.step = 0  # a state is of a whole step, so no part of a batch is pending
    return True


def _compare(state: Path, begun: Mapping[str, Any]) -> None:
    try:
        before = json.loads((state / BEGUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{state} is incomplete ({error}): remove it to start anew") from error
    now = json.loads(json.dumps(begun))
    if before.get("weights") != now.get("weights"):
        raise CheckpointError(f"{state} is of a network of another shape: remove it to start anew")
    if before.get("data") != now.get("data"):
        raise CheckpointError(
            f"{state} was begun with other pictures or annotations: give those, or remove it to start anew"
        )
    changed = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
    if changed:
        raise CheckpointError(
            f"{state} was begun with other settings ({'; '.join(changed)}): use those, or remove it to start "
            "anew"
        )


def _states(folder: Path, name: str) -> list[Path]:
    """Whole states of a run, oldest first."""
    pattern = re.compile(re.escape(name) + r"\.step-(\d+)")
    found = [
        (int(m[1]), path) for path in folder.glob(f"{name}.step-*") if (m := pattern.fullmatch(path.name))
    ]
    return [path for _, path in sorted(found)]

"""One flat training loop for every small model, with exact resume.

What a step sees depends only on (seed, step): its data, its noise and its dropout are drawn from generators
seeded with these two numbers. So a run that was killed and started again makes the same weights as one that
was not.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from contracts.errors import CheckpointError
from tabletop.cards import PRACTICAL

Metrics = dict[str, float | torch.Tensor]
"""Numbers to log; a tensor is read when its line is written, so that a GPU need not wait for it."""
LossFunction = Callable[[int, np.random.Generator], tuple[torch.Tensor, Metrics]]
"""(step, generator) -> (loss, numbers to log); the loss is where the weights are by then."""


@dataclass(frozen=True)
class Schedule:
    """How long, how fast and where. `max_seconds` only pauses a run: its result does not depend on it."""

    steps: int
    learning_rate: float
    seed: int = 0
    warmup: int = 100
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    ema_decay: float = 0.0
    bf16: bool = True
    max_seconds: float = math.inf
    save_every: float = 120.0
    """Seconds between checkpoints."""
    log_every: int = 50
    device: str = "cpu"
    """Where PyTorch computes. Another device rounds otherwise: weights that agree, not the same ones."""

    def lasting(self) -> dict[str, object]:
        """The settings that a result depends on."""
        facts = {k: v for k, v in asdict(self).items() if k not in PRACTICAL}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in facts.items()}


@dataclass(frozen=True)
class Outcome:
    """Where a run stands."""

    step: int
    finished: bool
    seconds: float
    """Training time of all sittings together."""


def train(
    name: str,
    folder: Path,
    model: nn.Module,
    loss: LossFunction,
    schedule: Schedule,
    extra: Iterable[nn.Module] = (),
) -> Outcome:
    """Train `model` (and the `extra` modules, such as heads that are thrown away) to the end of the schedule.

    The best estimate of the weights (the moving average where asked for) is in `model` when the run has
    finished, on the CPU; `folder/NAME.pt` holds everything a resume needs, `folder/NAME.jsonl` the logged
    numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(
        True
    )  # gradients that underflow would otherwise cost a CPU ten times the arithmetic
    modules = nn.ModuleList([model, *extra]).to(schedule.device)
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=schedule.learning_rate, betas=schedule.betas, weight_decay=schedule.weight_decay
    )
    average = copy.deepcopy(modules).requires_grad_(False) if schedule.ema_decay else None
    checkpoint = folder / f"{name}.pt"
    step, spent = _resume(checkpoint, modules, average, optimizer, schedule)
    started = saved = time.monotonic()
    log = (folder / f"{name}.jsonl").open("a")
    window: list[Metrics] = []
    modules.train()
    while True:
        now = time.monotonic()
        last = step >= schedule.steps
        pause = now - started >= schedule.max_seconds
        if last or pause or now - saved >= schedule.save_every:
            _save(checkpoint, modules, average, optimizer, schedule, step, spent + now - started)
            saved = now
        if last or pause:
            break
        rate = learning_rate(step, schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(schedule.seed * 1_000_003 + step)
        with torch.autocast(torch.device(schedule.device).type, torch.bfloat16, enabled=schedule.bf16):
            value, metrics = loss(step, np.random.default_rng([schedule.seed, step]))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        norm = nn.utils.clip_grad_norm_(parameters, schedule.clip)
        optimizer.step()
        if average is not None:
            _follow(average, modules, min(schedule.ema_decay, (step + 1) / (step + 10)))
        step += 1
        window.append({**metrics, "loss": value.detach(), "grad_norm": norm})
        if step % schedule.log_every == 0:
            mean = {k: round(float(np.mean([float(m[k]) for m in window if k in m])), 5) for k in window[-1]}
            elapsed = spent + time.monotonic() - started
            line = json.dumps({"step": step, "seconds": round(elapsed, 1), "lr": rate, **mean})
            print(f"{name} {line}", flush=True)
            log.write(line + "\n")
            log.flush()
            window.clear()
    log.close()
    if average is not None:
        modules.load_state_dict(average.state_dict())
    modules.eval().cpu()
    return Outcome(step, step >= schedule.steps, spent + time.monotonic() - started)


def train_in_turn(
    folder: Path, model: nn.Module, parts: Sequence[tuple[str, LossFunction, Schedule]]
) -> Outcome:
    """Train on each part (its name, loss and schedule), one after the other, and stop where one is paused.

    Each begins with the best estimate of the weights that the one before it made. The steps and seconds of
    the outcome are those of all parts.
    """
    steps, seconds, finished = 0, 0.0, True
    for name, loss, schedule in parts:
        outcome = train(name, folder, model, loss, schedule)
        steps, seconds, finished = steps + outcome.step, seconds + outcome.seconds, outcome.finished
        if not finished:
            break
    return Outcome(steps, finished, seconds)


def learning_rate(step: int, schedule: Schedule) -> float:
    """Linear warm-up, then a cosine to 2 % of the peak."""
    if step < schedule.warmup:
        return schedule.learning_rate * (step + 1) / schedule.warmup
    progress = (step - schedule.warmup) / max(1, schedule.steps - schedule.warmup)
    return schedule.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
            slow.lerp_(fast, 1 - decay)
        for slow_buffer, buffer in zip(average.buffers(), model.buffers(), strict=True):
            slow_buffer.copy_(buffer)


def _save(
    path: Path,
    modules: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    step: int,
    spent: float,
) -> None:
    state = {
        "schedule": schedule.lasting(),
        "modules": modules.state_dict(),
        "average": average.state_dict() if average is not None else None,
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": spent,
    }
    partial = path.with_suffix(".tmp")
    torch.save(state, partial)
    partial.replace(path)


def _resume(
    path: Path,
    modules: nn.Module,
    average: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    changed = [k for k, v in schedule.lasting().items() if state.get("schedule", {}).get(k, v) != v]
    if changed:
        raise CheckpointError(
            f"{path} was trained with another schedule ({', '.join(changed)}): remove it to begin anew, or "
            "train with the schedule that it began with"
        )
    modules.load_state_dict(state["modules"])
    if average is not None:
        average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    return state["step"], state["seconds"]

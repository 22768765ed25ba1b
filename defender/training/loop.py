"""The one training loop, on accelerate: one process, several (DDP), FSDP or DeepSpeed, as its config says.

What makes a resume exact: a step's samples and random numbers depend on (seed, step) alone, and a state on
disk holds all the rest (defender/training/state.py). So a run that is killed at any moment and started again
makes the same weights; the log goes on as if nothing had happened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from contracts.errors import InvalidInput, LegionError
from defender.datasets import Batch, Collator, Samples
from defender.training import state as states
from defender.training.engine import (
    SHARDED,
    make_accelerator,
    save_memory,
    suit_a_cpu,
    tell_deepspeed,
    to_device,
)
from defender.training.objectives import Metrics, Objective
from defender.training.reporting import Reporter, check_tracker
from defender.training.schedule import (
    Outcome,
    Schedule,
    batch_indices,
    essence,
    learning_rate,
    part_number,
    part_size,
)
from defender.training.state import Standing

Keep = Callable[[Mapping[str, Tensor]], None]
"""Told the network's weights, by LEGION's names, in the main process only."""


@dataclass(frozen=True)
class Extras:
    """What a run may do beside training."""

    validation: Samples | None = None
    keep_best: Keep | None = None
    """Called after every validation that was better than all before it."""
    keep_last: Keep | None = None
    """Called once, when the run is finished."""
    tracker: str | None = None
    origin: str = ""
    """What the frozen weights are, such as a checkpoint's digest: a run is not resumed on others."""
    data: str = ""
    """What the samples are, such as a digest of them: a run is not resumed on others. Empty: not compared."""


def run(
    name: str,
    objective: Objective,
    samples: Samples,
    collate: Collator,
    schedule: Schedule,
    folder: Path,
    extras: Extras | None = None,
) -> Outcome:
    """Train `objective` until its schedule ends or pauses; the state and the log are FOLDER/NAME.*.

    Raises InvalidInput on settings or samples that cannot be used, CheckpointError on a state in `folder`
    that does not belong to this run.
    """
    return _Run(name, objective, samples, collate, schedule, folder, extras or Extras()).go()


class _Run:
    """One run: what its steps share."""

    def __init__(
        self,
        name: str,
        objective: Objective,
        samples: Samples,
        collate: Collator,
        schedule: Schedule,
        folder: Path,
        extras: Extras,
    ) -> None:
        check_tracker(extras.tracker)
        self.name, self.objective, self.samples, self.collate = name, objective, samples, collate
        self.schedule, self.folder, self.extras = schedule, folder, extras
        folder.mkdir(parents=True, exist_ok=True)
        self.accelerator = make_accelerator(schedule, extras.tracker, folder, objective.every_parameter_used)
        self.part_size = part_size(schedule, self.accelerator.num_processes)
        batch_indices(0, len(samples), schedule)  # says at once where there are too few samples
        if schedule.ema_decay and self.accelerator.distributed_type in SHARDED:
            raise InvalidInput("a moving average cannot be kept of a sharded network: set ema_decay = 0")
        if self.accelerator.device.type == "cpu":
            suit_a_cpu(objective)
        if schedule.checkpointing:
            save_memory(objective.network)
        self.begun = {
            **essence(schedule),
            "samples": len(samples),
            "origin": self.extras.origin,
            **({"data": self.extras.data} if self.extras.data else {}),
            "loss": dict(objective.judged),
            "lora": asdict(objective.network.config.lora),
            "weights": [f"{n} {tuple(p.shape)}" for n, p in states.trained(objective).items()],
        }
        optimizer = torch.optim.AdamW(
            [p for p in objective.parameters() if p.requires_grad],
            schedule.learning_rate,
            schedule.betas,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        tell_deepspeed(self.accelerator, self.part_size)
        self.model, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.standing = Standing()
        if schedule.ema_decay:
            self.standing.average = {n: p.detach().clone() for n, p in self._trained().items()}
        self.accelerator.register_for_checkpointing(self.standing)
        states.keep_only_trained(self.accelerator)

    def go(self) -> Outcome:
        """Resume if there is something to resume, then step until the end or a pause."""
        schedule, standing = self.schedule, self.standing
        states.resume(self.accelerator, self.folder, self.name, self.begun)
        spent, started = standing.seconds, time.monotonic()
        saved, logged = started, (standing.step, started)
        batches = self._batches(standing.step)
        self.model.train()
        reporter = Reporter(self.accelerator, self.name, self.folder, schedule.steps, standing.step)
        with reporter:
            while True:
                now = self._agreed(time.monotonic() - started)
                standing.seconds = spent + now
                progress = max(standing.step / schedule.steps, standing.seconds / schedule.max_seconds)
                last, pause = progress >= 1, now >= schedule.pause_after
                if last:
                    self._validate(reporter)
                if last or pause or started + now - saved >= schedule.save_every:
                    states.save(self.accelerator, self.folder, self.name, standing.step, self.begun)
                    saved = started + now
                if last or pause:
                    break

                rate = learning_rate(standing.step, progress, schedule)
                metrics = self._step(_whole(next(batches)), rate, progress)
                standing.step += 1
                standing.window.append(metrics)
                reporter.advance(standing.step, metrics["loss"])
                if standing.step % schedule.log_every == 0 or standing.step == schedule.steps:
                    now = time.monotonic()
                    pace = (standing.step - logged[0]) * schedule.batch_size / (now - logged[1])
                    logged = (standing.step, now)
                    seconds = round(spent + now - started, 1)
                    line = {"seconds": seconds, "per_second": round(pace, 1), "lr": rate}
                    reporter.write(standing.step, {**line, **_mean(standing.window)})
                    standing.window.clear()
                if schedule.validate_every and standing.step % schedule.validate_every == 0:
                    self._validate(reporter)
        if last:
            self._finish()
        self.objective.eval()
        return Outcome(standing.step, last, spent + time.monotonic() - started)

    # ---- one step

    def _step(self, parts: Sequence[Batch], rate: float, progress: float) -> Metrics:
        """Gradients of this process's parts, then one step of the optimizer with everyone's."""
        accelerator, schedule = self.accelerator, self.schedule
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts = [to_device(part, accelerator.device) for part in parts]
        counts = torch.stack([self.objective.counts(part) for part in parts])
        total = accelerator.reduce(counts.sum(0), reduction="sum")
        if not bool(total.any()):
            raise InvalidInput(self.objective.unusable)
        share = counts / total.clamp(min=1e-12)
        # accelerate takes the mean over processes and over accumulated parts; ours is a sum.
        scale = accelerator.num_processes * len(parts)
        sums = torch.zeros(1 + len(self.objective.terms), device=accelerator.device)
        norm: Any = None
        for micro, part in enumerate(parts):
            place = part_number(micro, accelerator.process_index, accelerator.num_processes)
            torch.manual_seed(schedule.seed * 1_000_003 + part_seed(self.standing.step, place))
            with accelerator.accumulate(self.model):
                loss, values = self.model(part, progress, share[micro] * scale)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    norm = accelerator.clip_grad_norm_(self.model.parameters(), schedule.clip)
                self.optimizer.step()
                self.optimizer.zero_grad()
            sums += torch.cat([loss.detach().float()[None] / scale, values * share[micro]])
        self._follow()
        sums = accelerator.reduce(sums, reduction="sum").tolist()
        metrics = {"loss": sums[0]}
        metrics |= {n: v for n, v, c in zip(self.objective.terms, sums[1:], total.tolist(), strict=True) if c}
        return {**metrics, "grad_norm": float(norm)} if norm is not None else metrics

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average of the weights toward them, faster in the first steps."""
        average = self.standing.average
        if average:
            step = self.standing.step
            decay = min(self.schedule.ema_decay, (step + 1) / (step + 10))
            torch._foreach_lerp_(list(average.values()), list(self._trained().values()), 1 - decay)

    def _batches(self, start: int) -> Iterator[list[Batch] | LegionError]:
        """This process's parts of every batch from step `start` on."""
        steps = _Steps(
            self.samples,
            self.collate,
            self.schedule,
            self.part_size,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        sampler = range(start, self.schedule.steps)
        if not sampler:
            return iter(())
        return iter(
            DataLoader(steps, batch_size=None, sampler=sampler, num_workers=self.schedule.workers)  # type: ignore[arg-type]
        )

    # ---- validation and the result

    @torch.no_grad()
    def _validate(self, reporter: Reporter) -> None:
        """Means over the validation samples in evaluation mode; the best so far is kept."""
        standing, samples = self.standing, self.extras.validation
        if samples is None or standing.validated == standing.step:
            return
        self.model.eval()
        accelerator, terms = self.accelerator, self.objective.terms
        sums = torch.zeros(2, len(terms), device=accelerator.device)
        with self._averaged():
            for indices in validation_parts(
                len(samples), self.part_size, accelerator.process_index, accelerator.num_processes
            ):
                # Every process runs as many parts as the others, the last ones perhaps for nothing.
                batch = self.collate([samples[i] for i in indices or [0]])
                batch = to_device(batch, accelerator.device)
                counts = self.objective.counts(batch) * bool(indices)
                _, values = self.model(batch, 1.0, torch.ones_like(counts))
                sums += torch.stack([values * counts, counts])
            total, counted = accelerator.reduce(sums, reduction="sum").tolist()
            means = {n: t / c for n, t, c in zip(terms, total, counted, strict=True) if c}
            loss = self.objective.validation_loss(means)
            standing.validated = standing.step
            better = standing.best is None or loss < standing.best
            if better:
                standing.best = loss
                self._keep(self.extras.keep_best)
        self.model.train()
        rounded = {name: round(value, 4) for name, value in {"loss": loss, **means}.items()}
        line = {"seconds": round(standing.seconds, 1), "validation": rounded, "best": better}
        reporter.write(standing.step, line, "validation")

    def _finish(self) -> None:
        """Put the result, the moving average where there is one, into the network, and hand it out."""
        with torch.no_grad():
            for name, parameter in self._trained().items():
                if name in self.standing.average:
                    parameter.copy_(self.standing.average[name])
        self._keep(self.extras.keep_last)

    def _keep(self, keep: Keep | None) -> None:
        if keep is None:
            return
        weights = self.accelerator.get_state_dict(self.model)
        if self.accelerator.is_main_process:
            prefix = "network."
            keep({n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)})
        self.accelerator.wait_for_everyone()

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The moving average in place of the weights for a while."""
        average, now = self.standing.average, self._trained() if self.standing.average else {}
        kept = {name: parameter.detach().clone() for name, parameter in now.items()}
        with torch.no_grad():
            for name, parameter in now.items():
                parameter.copy_(average[name])
            try:
                yield
            finally:
                for name, parameter in now.items():
                    parameter.copy_(kept[name])

    # ---- helpers

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return states.trained(self.accelerator.unwrap_model(self.model))

    def _agreed(self, seconds: float) -> float:
        """The main process's clock, so that all stop and save at the same step."""
        if self.accelerator.num_processes == 1:
            return seconds
        own = seconds if self.accelerator.is_main_process else 0.0
        told = torch.tensor(own, device=self.accelerator.device)
        return float(self.accelerator.reduce(told, reduction="sum"))


class _Steps(Dataset[Any]):
    """One process's parts of the batch of each step. An error of the data is handed over, not raised.

    (Raised in a worker process it would come out as another text, with a traceback inside.)
    """

    def __init__(
        self,
        samples: Samples,
        collate: Collator,
        schedule: Schedule,
        part: int,
        process: int,
        processes: int,
    ) -> None:
        self.samples, self.collate, self.schedule = samples, collate, schedule
        self.part, self.process, self.processes = part, process, processes

    def __getitem__(self, step: int) -> list[Batch] | LegionError:
        try:
            indices = batch_indices(step, len(self.samples), self.schedule)
            starts = [
                part_number(micro, self.process, self.processes) * self.part
                for micro in range(self.schedule.accumulation)
            ]
            return [
                self.collate([self.samples[i] for i in indices[start : start + self.part]])
                for start in starts
            ]
        except LegionError as error:
            return error


def part_seed(step: int, place: int) -> int:
    """Offset of the random numbers of one part of a step, the same on any number of processes."""
    return step + (place << 40)


def validation_parts(size: int, part: int, process: int, processes: int) -> list[range]:
    """Ranges of samples for one process; the same number for each, empty ranges at the end."""
    starts = [part * (k * processes + process) for k in range(math.ceil(size / (part * processes)))]
    return [range(min(start, size), min(start + part, size)) for start in starts]


def _whole(parts: list[Batch] | LegionError) -> list[Batch]:
    if isinstance(parts, LegionError):
        raise parts
    return parts


def _mean(window: Sequence[Metrics]) -> Metrics:
    """Mean of each metric over the steps that have it."""
    names = dict.fromkeys(name for metrics in window for name in metrics)
    return {n: round(float(np.mean([m[n] for m in window if n in m])), 4) for n in names}

"""Real processes that train the tiny defender, and ways for them to die.

They are forked from a server that has everything imported and has computed nothing, so each costs little.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["defender.training.stages", "peft", "processes"])
PATIENCE = 240.0
"""Seconds after which a process counts as stuck."""


@dataclass(frozen=True)
class Job:
    """A training of six steps of eight samples."""

    out: Path
    tokenizer: Path
    config: str
    stage: str = "1"
    schedule: dict[str, Any] = field(default_factory=dict)
    adapters: bool = False
    dies: str = ""
    """"writing 3": while the state of step 3 is written; "moving 3": when it is whole but not in place."""


def train(job: Job, rank: int = 0, world: int = 1, port: int = 0) -> None:
    """In a forked process: one rank of the job. The weights it ends with go to OUT/final.safetensors."""
    os.environ.update(OMP_NUM_THREADS="1")
    if world > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(world),
            LOCAL_WORLD_SIZE=str(world),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    import torch
    from safetensors.torch import save_file

    from defender.config import LegionConfig, LoraSettings
    from defender.datasets import Collator
    from defender.model import Legion
    from defender.text import Dialog, Tokenizer
    from defender.training import stages, state
    from defender.training.adapters import add_adapters
    from defender.training.loop import Extras
    from defender.training.schedule import Schedule

    torch.set_num_threads(1)
    if job.dies:
        how, step = job.dies.split()
        _prepare_to_die(state, how, int(step))
    config = LegionConfig.from_json(job.config)
    dialog = Dialog(config, Tokenizer.load(job.tokenizer, config.tokens))
    torch.manual_seed(11)
    model = Legion(config)
    options: dict[str, Any] = {}
    if job.adapters:
        add_adapters(model, LoraSettings(dropout=0.3))
        options["trainable"] = "paper"
    torch.manual_seed(os.getpid())  # what a process drew before must not matter
    schedule = Schedule(
        **{
            "steps": 6,
            "batch_size": 8,
            "learning_rate": 3e-3,
            "warmup": 2,
            "log_every": 1,
            "save_every": 0.0,
            "bf16": False,
            "validate_every": 4,
            **job.schedule,
        }
    )
    train_stage = {"1": stages.train_stage1, "joint": stages.train_joint, "2": stages.train_stage2}[job.stage]
    extras = Extras(
        validation=pictures(6, seed=9),
        keep_best=lambda weights: save_file(_contiguous(weights), job.out / "best.safetensors"),
        keep_last=lambda weights: save_file(_contiguous(weights), job.out / "final.safetensors"),
    )
    train_stage(model, pictures(16), Collator(config, dialog), schedule, job.out, extras=extras, **options)


def pictures(count: int, seed: int = 0) -> list[Any]:
    """Samples with zero, one and two findings: parts of a batch hold different numbers of words and masks."""
    from contracts.records import Finding
    from defender.datasets import Sample

    rng = np.random.default_rng(seed)
    samples = []
    for i in range(count):
        findings = []
        for k in range((0, 1, 2, 2, 0)[i % 5]):
            mask = np.zeros((32, 32), dtype=bool)
            at = int(rng.integers(0, 20))
            mask[at : at + 8 + k, at : at + 6] = True
            words = ("the red cone", "floats in the air") if k else ("the shadow of the ball", "falls toward")
            findings.append(Finding(mask, *words, "physics", 1.0))
        image = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        samples.append(Sample(image, tuple(findings), (True, False, None)[i % 3]))
    return samples


def start(job: Job, world: int = 1) -> list[Any]:
    """All ranks of a job as processes."""
    job.out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [FORKS.Process(target=train, args=(job, rank, world, port)) for rank in range(world)]
    for rank in ranks:
        rank.start()
    return ranks


def finish(ranks: list[Any]) -> list[int]:
    """Wait for all ranks; their exit codes. What hangs, as after the death of another rank, is killed."""
    deadline = time.monotonic() + PATIENCE
    while any(rank.is_alive() for rank in ranks) and time.monotonic() < deadline:
        if any(rank.exitcode not in (None, 0) for rank in ranks):
            kill(ranks)
        time.sleep(0.02)
    kill(ranks)
    for rank in ranks:
        rank.join()
    return [rank.exitcode for rank in ranks]


def kill(ranks: list[Any]) -> None:
    """kill -9 for every one of these processes that lives."""
    for rank in ranks:
        if rank.is_alive():
            rank.kill()


def kill_when(ranks: list[Any], ready: Callable[[], bool]) -> None:
    """kill -9 from outside, at whatever instant `ready` becomes true."""
    deadline = time.monotonic() + PATIENCE
    while not ready() and time.monotonic() < deadline:
        time.sleep(0.005)
    kill(ranks)
    codes = finish(ranks)
    assert set(codes) == {-signal.SIGKILL}, codes


def _prepare_to_die(state: Any, how: str, step: int) -> None:
    """Let this process kill itself in the middle of writing a state."""
    usual = state.save_file if how == "writing" else state.Path.rename

    def write(values: Any, path: Path) -> None:
        usual(values, path)
        if state.writing == step:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def rename(source: Path, target: Path) -> Any:
        if str(target).endswith(f"step-{step:06d}"):
            os.kill(os.getpid(), signal.SIGKILL)
        return usual(source, target)

    if how == "moving":
        state.Path.rename = rename
        return
    save = state.save

    def noting(accelerator: Any, folder: Path, name: str, at: int, begun: Any) -> None:
        state.writing = at
        save(accelerator, folder, name, at, begun)

    state.save, state.save_file = noting, write


def _contiguous(weights: Any) -> dict[str, Any]:
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}

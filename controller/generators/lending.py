"""What adapters over diffusers pipelines have in common: whose weights, how exact, how many at once."""

from __future__ import annotations

from pathlib import Path

import torch

from contracts.hub import hub_name
from controller.generators import hub, pipelines
from controller.generators.batching import Batching, Relief, probe_for
from controller.generators.loading import Loan, Weights
from controller.generators.pipelines import Sampling
from controller.generators.shelf import Shelf


def open_loan(
    path: Path | str, sampling: Sampling, batch_size: int, weights: Weights, shelf: Shelf | None
) -> Loan:
    """A checkpoint to load from, its options checked. Raises InvalidInput, CheckpointError."""
    sampling.check()
    pipelines.check_batch_size(batch_size)
    weights.check()
    return Loan(hub.locate(path, weights.variant), weights, shelf or Shelf())


def name_of(path: Path | str) -> str:
    """The folder's name; of a name on the hub, the part after the owner."""
    if not Path(path).is_dir() and (named := hub_name(str(path))) is not None:
        return named[0].rpartition("/")[2]
    return Path(path).resolve().name


def is_exact(given: bool | None, loan: Loan) -> bool:
    """As given; on a CPU if not."""
    return torch.device(loan.weights.device).type == "cpu" if given is None else given


def make_batching(name: str, loan: Loan, batch_size: int, exact: bool) -> Batching:
    """One picture per call if exact; otherwise as many as fit, up to `batch_size`."""
    device = loan.weights.device
    reliefs = [
        Relief("other models put away", lambda: loan.shelf.put_away_others(loan.key)),
        Relief("weights in main memory (offload = 'model')", lambda: loan.offload("model")),
        Relief("weights in main memory (offload = 'sequential')", lambda: loan.offload("sequential")),
        Relief("the autoencoder in tiles", loan.tile),
    ]
    probe = None if exact or batch_size == 1 else probe_for(device)
    return Batching(name, 1 if exact else batch_size, reliefs, probe)

"""Aims for comparison: what inpainting repairs when it is not what the defender found."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contracts.records import Diagnosis, Finding, Mask
from controller.inpainting import Aim


def itself(run_id: str) -> str:
    """The run's own id."""
    return run_id


@dataclass(frozen=True)
class Elsewhere:
    """The same masks in random places of the picture: equal in number, shape and area."""

    inner: Aim
    lot: Callable[[str], str] = itself
    """What the places depend on, besides the round: by default the run's id."""
    name = "elsewhere"

    def findings(self, run_id: str, round_index: int, diagnosis: Diagnosis) -> Sequence[Finding]:
        """The other aim's, each moved to a place of its own."""
        key = f"{self.lot(run_id)}/{round_index}".encode()
        rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest()[:8], "big"))
        found = self.inner.findings(run_id, round_index, diagnosis)
        return [replace(finding, mask=moved(finding.mask, rng)) for finding in found]


def moved(mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask (H, W) at a random place where all of it fits."""
    rows, columns = np.nonzero(mask)
    result = np.zeros_like(mask)
    if rows.size:
        top, left = rows.min(), columns.min()
        down = rng.integers(mask.shape[0] - (rows.max() - top))
        right = rng.integers(mask.shape[1] - (columns.max() - left))
        result[rows - top + down, columns - left + right] = True
    return result

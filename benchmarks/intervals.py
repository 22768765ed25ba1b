"""Bootstrap intervals over prompts, the unit of every comparison here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float

    def percent(self) -> str:
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def points(self) -> str:
        """For differences of shares."""
        return f"{100 * self.mean:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"

    def plain(self) -> str:
        return f"{self.mean:.4f} [{self.low:.4f}, {self.high:.4f}]"


def bootstrap(values: ArrayLike, seed: int = 0) -> Interval:
    """Mean of one value per prompt. For a paired comparison pass the differences."""
    x = np.asarray(values, float)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [x[rng.integers(len(x), size=(1_000, len(x)))].mean(axis=1) for _ in range(RESAMPLES // 1_000)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(x.mean()), float(low), float(high))

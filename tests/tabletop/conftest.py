"""A small data set of the world, rendered once."""

import numpy as np
import pytest

from tabletop.data import PairSet, _facts, _packed_masks, stack
from tabletop.flaws import render_pair


@pytest.fixture(scope="session")
def pairs() -> PairSet:
    """Twelve pairs, of one and two solids in turn."""
    made = [render_pair(seed, objects=1 + seed % 2) for seed in range(12)]
    return PairSet(
        stack([p.clean for p in made]),
        stack([p.flawed for p in made]),
        np.stack([_packed_masks(p, 64) for p in made]),
        [_facts(p) for p in made],
    )

"""The last parts of the generator's training: each category of flaw by itself, as often as it should be."""

import numpy as np
import pytest

from tabletop import captions, generator

KINDS = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1) if a or b or c], bool)
FLAGS = KINDS.repeat(3, axis=0)
TWO_SOLIDS = np.tile([False, False, True], len(KINDS))


@pytest.fixture(scope="module", params=[generator.SETTLED, generator.FINISHED], ids=["settling", "finishing"])
def mix(request: pytest.FixtureRequest) -> generator.Mix:
    return request.param


def drawn(mix: generator.Mix, batches: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Whether the drawn pictures are flawed, by category (N, 3), and whether they have two solids (N,)."""
    draw = generator.independent_flaws(FLAGS, TWO_SOLIDS, mix)
    rng = np.random.default_rng(5)
    flawed, two = [], []
    for _ in range(batches):
        index, clean = draw(rng)
        flawed.append(FLAGS[index] & ~clean[:, None])
        two.append(TWO_SOLIDS[index])
    return np.concatenate(flawed), np.concatenate(two)


def test_categories_are_flawed_independently(mix):
    flawed, _ = drawn(mix)
    for k in range(3):
        for other in {0, 1, 2} - {k}:
            apart = flawed[flawed[:, other], k].mean() - flawed[~flawed[:, other], k].mean()
            assert abs(apart) < 0.03


def test_a_category_is_flawed_as_often_as_said_where_no_modifier_says_otherwise(mix):
    flawed, _ = drawn(mix)
    rng = np.random.default_rng(6)
    silent = flawed | (rng.random(flawed.shape) >= captions.MODIFIER_SHARE)
    for k in range(3):
        assert abs(flawed[silent[:, k], k].mean() - mix.flawed_unless_said) < 0.02


def test_two_solids_come_as_often_as_said_however_flawed(mix):
    flawed, two = drawn(mix)
    for chosen in (flawed.any(axis=1), ~flawed.any(axis=1)):
        assert abs(two[chosen].mean() - mix.two_solids) < 0.02

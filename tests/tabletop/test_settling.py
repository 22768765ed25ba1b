"""The last part of the generator's training: each category of flaw by itself, as often as it should be."""

import numpy as np

from tabletop import captions, generator

KINDS = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1) if a or b or c], bool)
FLAGS = KINDS.repeat(3, axis=0)
TWO_SOLIDS = np.tile([False, False, True], len(KINDS))


def drawn(batches: int = 600) -> tuple[np.ndarray, np.ndarray]:
    """Whether the drawn pictures are flawed, by category (N, 3), and whether they have two solids (N,)."""
    draw = generator.settled_flaws(FLAGS, TWO_SOLIDS)
    rng = np.random.default_rng(5)
    flawed, two = [], []
    for _ in range(batches):
        index, clean = draw(rng)
        flawed.append(FLAGS[index] & ~clean[:, None])
        two.append(TWO_SOLIDS[index])
    return np.concatenate(flawed), np.concatenate(two)


def test_categories_are_flawed_independently():
    flawed, _ = drawn()
    for k in range(3):
        for other in {0, 1, 2} - {k}:
            apart = flawed[flawed[:, other], k].mean() - flawed[~flawed[:, other], k].mean()
            assert abs(apart) < 0.03


def test_a_category_is_flawed_as_often_as_said_where_no_modifier_says_otherwise():
    flawed, _ = drawn()
    rng = np.random.default_rng(6)
    silent = flawed | (rng.random(flawed.shape) >= captions.MODIFIER_SHARE)
    for k in range(3):
        assert abs(flawed[silent[:, k], k].mean() - generator.FLAWED_UNLESS_SAID) < 0.02


def test_two_solids_come_as_often_as_said_however_flawed():
    flawed, two = drawn()
    for chosen in (flawed.any(axis=1), ~flawed.any(axis=1)):
        assert abs(two[chosen].mean() - generator.TWO_SOLIDS_SHARE) < 0.02

"""The last part of the generator's training: each category of flaw by itself, as often as it should be."""

import numpy as np

from tabletop import captions, generator

FLAGS = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1) if a or b or c], bool)


def drawn(batches: int = 600) -> np.ndarray:
    """(N, 3) whether the drawn pictures are flawed, by category."""
    draw = generator.settled_flaws(FLAGS.repeat(3, axis=0))
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(batches):
        index, clean = draw(rng)
        rows.append(FLAGS.repeat(3, axis=0)[index] & ~clean[:, None])
    return np.concatenate(rows)


def test_categories_are_flawed_independently():
    flawed = drawn()
    for k in range(3):
        for other in {0, 1, 2} - {k}:
            apart = flawed[flawed[:, other], k].mean() - flawed[~flawed[:, other], k].mean()
            assert abs(apart) < 0.03


def test_a_category_is_flawed_as_often_as_said_where_no_modifier_says_otherwise():
    flawed = drawn()
    rng = np.random.default_rng(6)
    silent = flawed | (rng.random(flawed.shape) >= captions.MODIFIER_SHARE)
    for k in range(3):
        assert abs(flawed[silent[:, k], k].mean() - generator.FLAWED_UNLESS_SAID) < 0.02

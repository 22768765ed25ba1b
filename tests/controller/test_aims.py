"""Random places for the masks that inpainting repairs, for comparison."""

from __future__ import annotations

import numpy as np

from contracts.records import Diagnosis, Finding
from controller.aims import Elsewhere, moved
from controller.inpainting import AsFound

SHAPE = (24, 32)


def box(left, top, right, bottom):
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


def finding(mask):
    return Finding(mask, "the cone", "the cone is bent", "structure", 0.9)


def test_a_moved_mask_keeps_its_shape_and_stays_inside():
    mask = box(1, 1, 9, 5) & ~box(3, 2, 5, 4)
    places = set()
    for seed in range(40):
        other = moved(mask, np.random.default_rng(seed))
        rows, columns = np.nonzero(other)
        assert other.sum() == mask.sum()
        assert np.array_equal(
            other[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], mask[1:5, 1:9]
        )
        places.add((rows.min(), columns.min()))
    assert len(places) > 20


def test_elsewhere_gives_the_same_answer_for_the_same_call_and_another_each_round():
    aim, found = Elsewhere(AsFound()), Diagnosis((finding(box(1, 1, 5, 5)), finding(box(9, 9, 12, 12))))
    first, again = (aim.findings("run", 1, found) for _ in range(2))
    later = aim.findings("run", 2, found)
    assert [f.mask.tobytes() for f in first] == [f.mask.tobytes() for f in again]
    assert [f.mask.tobytes() for f in first] != [f.mask.tobytes() for f in later]
    assert [f.mask.sum() for f in first] == [16, 9]


def test_places_may_depend_on_something_else_than_the_whole_run_id():
    found = Diagnosis((finding(box(1, 1, 5, 5)),))
    aim = Elsewhere(AsFound(), lot=lambda run_id: run_id.rpartition("-")[2])
    one, same, other = (aim.findings(f"{name}", 1, found)[0].mask for name in ("a-7", "b-7", "a-8"))
    assert np.array_equal(one, same) and not np.array_equal(one, other)

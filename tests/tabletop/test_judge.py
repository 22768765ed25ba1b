"""The judge's training: what paintings teach, and what they do not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tabletop import data, judge

pytestmark = pytest.mark.slow

BRIEF = replace(judge.SCHEDULE, steps=1, warmup=0, bf16=False, ema_decay=0.0)
"""One step: after it, a head moved by a label has moved and the others have not."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    usual, data.SHARD = data.SHARD, 8
    try:
        data.make("judge", 8, folder, processes=1)
        return data.load("judge", 8, folder)
    finally:
        data.SHARD = usual


def trained(pairs, folder, paintings):
    model, outcome = judge.train_judge(pairs, (pairs.clean, pairs.flawed), folder, BRIEF, paintings)
    assert outcome.finished
    return model.state_dict()


def test_paintings_teach_structure_and_nothing_else(pairs, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), np.uint8)
    none = trained(pairs, tmp_path / "none", None)
    sound = trained(pairs, tmp_path / "sound", (pictures, np.zeros(6, bool)))
    bad = trained(pairs, tmp_path / "bad", (pictures, np.ones(6, bool)))
    rows = f"heads.{len(judge._SIZES) - 1}.weight"
    others = [k for k in range(3) if k != judge.STRUCTURE]
    assert not torch.equal(none[rows], sound[rows])
    moved = (bad[rows] - sound[rows]).abs().mean(dim=1)
    assert moved[judge.STRUCTURE] > 1e-5
    assert moved[others].max() < 0.02 * moved[judge.STRUCTURE]
    for k in range(len(judge.ATTRIBUTE_SIZES)):
        name = f"heads.{k}.weight"
        assert (bad[name] - sound[name]).abs().mean() < 0.02 * moved[judge.STRUCTURE]


def test_opinion_names_the_right_hand_solid(pairs, tmp_path):
    model = judge.JudgeNetwork()
    opinion = judge.judge(model, pairs.clean)
    assert opinion.second_shape.shape == (8,) and opinion.second_color.max() <= 6
    assert opinion.flaws.shape == (8, 3) and opinion.flawed.shape == (8,)


def test_a_mirror_swaps_two_solids_and_leaves_one_alone():
    none = len(judge.SHAPES)
    labels = np.array([[0, 1, 2, 3, 4], [0, 1, 2, none, 7], [-1] * 5])
    assert judge.mirror_labels(labels).tolist() == [[3, 4, 2, 0, 1], [0, 1, 2, none, 7], [-1] * 5]


def test_moved_pictures_keep_what_they_show_and_go_to_every_side():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (60, 64, 64, 3), np.uint8)
    moved = judge._moved(pictures, rng)
    far = judge.SHIFT
    inside, steps = np.s_[far:-far], range(-far, far + 1)
    found = [
        [
            (y, x)
            for y in steps
            for x in steps
            if (np.roll(p, (y, x), (0, 1))[inside, inside] == m[inside, inside]).all()
        ]
        for p, m in zip(pictures, moved, strict=True)
    ]
    assert all(len(places) == 1 for places in found)
    assert {y for ((y, _),) in found} == {x for ((_, x),) in found} == set(steps)

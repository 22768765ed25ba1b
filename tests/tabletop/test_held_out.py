"""Held-out scenes: the test split's seeds, the truth beside each picture, the same picture at an index."""

import numpy as np
import pytest

from contracts.errors import InvalidInput
from defender.synthscars import SynthScars, export
from tabletop import held_out
from tabletop.flaws import render_pair
from tabletop.held_out import DECODED, PAINTING, RECONSTRUCTION, RENDERED, HeldOutScenes, RealOrPainted
from tabletop.scenes import SEED_RANGES

pytestmark = pytest.mark.slow


def test_scenes_are_those_of_the_split_and_carry_their_truth():
    scenes = HeldOutScenes(2, "test", decoded=False)
    pair = render_pair(SEED_RANGES["test"][0] + 1)
    clean, flawed = scenes[2], scenes[3]
    assert len(scenes) == 4 and scenes.groups == (RENDERED,) * 4
    assert np.array_equal(clean.image, pair.clean) and clean.findings == () and clean.is_real
    assert np.array_equal(flawed.image, pair.flawed)
    assert [f.explanation for f in flawed.findings] == [f.explanation for f in pair.findings]
    assert scenes.name(3) == "test scene 1, flawed rendered"
    with pytest.raises(IndexError):
        scenes[4]


def test_after_the_autoencoder_it_is_nearly_the_same_picture_and_not_real():
    scenes = HeldOutScenes(1)
    assert scenes.groups == (RENDERED, RENDERED, DECODED, DECODED)
    before, after = scenes[1], scenes[3]
    difference = np.abs(before.image.astype(int) - after.image)
    assert 0 < difference.mean() < 8
    assert after.is_real is False and len(after.findings) == len(before.findings)
    assert np.array_equal(after.image, scenes[3].image)


def test_real_and_generated_are_balanced_and_flaws_are_no_sign(monkeypatch):
    monkeypatch.setattr(held_out, "_painted", lambda seeds: [np.full((64, 64, 3), s % 251) for s in seeds])
    samples = RealOrPainted(10)
    assert [samples[i].is_real for i in range(4)] == [True, False, True, False]
    assert samples.groups[:4] == (PAINTING, PAINTING, RECONSTRUCTION, RECONSTRUCTION)
    first = SEED_RANGES["test"][0]
    assert [samples[4 * k + 1].image[0, 0, 0] for k in range(10)] == [(first + k) % 251 for k in range(10)]
    pair = render_pair(first)
    assert np.array_equal(samples[0].image, pair.clean) and np.array_equal(samples[2].image, pair.flawed)
    assert np.array_equal(samples[4].image, render_pair(first + 1).flawed)


@pytest.mark.parametrize(("split", "scenes"), [("tset", 1), ("test", 0), ("test", 10**9)])
def test_no_such_scenes(split, scenes):
    with pytest.raises(InvalidInput):
        HeldOutScenes(scenes, split)


def test_exported_scenes_come_back_whole(tmp_path):
    scenes = HeldOutScenes(3, "test", decoded=False)
    export((scenes[i] for i in range(len(scenes))), tmp_path, "test")
    again = SynthScars(tmp_path, "test")
    assert len(again) == 6 and not again.skipped
    for i in range(6):
        mine, theirs = scenes[i], again[i]
        assert np.array_equal(mine.image, theirs.image)
        assert {f.phrase for f in mine.findings} == {f.phrase for f in theirs.findings}
        for finding in mine.findings:
            assert any(np.array_equal(finding.mask, other.mask) for other in theirs.findings)

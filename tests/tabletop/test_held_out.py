"""Held-out scenes: the test split's seeds, the truth beside each picture, the same picture at an index."""

import numpy as np
import pytest

from contracts.errors import InvalidInput
from defender.synthscars import SynthScars, export
from tabletop import held_out
from tabletop.flaws import render_pair
from tabletop.held_out import DECODED, PAINTING, RECONSTRUCTION, RENDERED, RealOrPainted, RenderedScenes
from tabletop.scenes import SEED_RANGES, solid_count

pytestmark = pytest.mark.slow


def whole_pair(seed):
    """The scene of a seed as the data set on disk has it."""
    return render_pair(seed, objects=solid_count(seed))


def test_scenes_are_those_of_the_split_and_carry_their_truth():
    scenes = RenderedScenes(2, "test", decoded=False)
    pair = whole_pair(SEED_RANGES["test"][0] + 1)
    clean, flawed = scenes[2], scenes[3]
    assert len(scenes) == 4 and scenes.groups == (RENDERED,) * 4
    assert np.array_equal(clean.image, pair.clean) and clean.findings == () and clean.is_real
    assert np.array_equal(flawed.image, pair.flawed)
    assert [f.explanation for f in flawed.findings] == [f.explanation for f in pair.findings]
    assert scenes.name(3) == "test scene 1, flawed rendered"
    with pytest.raises(IndexError):
        scenes[4]


def test_an_index_means_the_same_sample_whatever_was_asked_for_before():
    wanted = (7, 0, 3, 7, 5)
    first, second = RenderedScenes(2), RenderedScenes(9)
    there = [first[i] for i in wanted]
    held_out._pair.cache_clear()
    held_out._decoded.cache_clear()
    for one, other in zip(there[::-1], [second[i] for i in wanted[::-1]], strict=True):
        assert np.array_equal(one.image, other.image) and one.is_real == other.is_real
        assert [f.phrase for f in one.findings] == [f.phrase for f in other.findings]
        assert all((f.mask == g.mask).all() for f, g in zip(one.findings, other.findings, strict=True))


def test_there_are_scenes_of_two_solids_as_in_the_data_set():
    first = SEED_RANGES["validation"][0]
    two = [k for k in range(8) if solid_count(first + k) == 2]
    scenes = RenderedScenes(8, "validation", decoded=False)
    assert two and all(np.array_equal(scenes[2 * k].image, whole_pair(first + k).clean) for k in two)


def test_after_the_autoencoder_it_is_nearly_the_same_picture_and_not_real():
    scenes = RenderedScenes(1)
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
    pair = whole_pair(first)
    assert np.array_equal(samples[0].image, pair.clean) and np.array_equal(samples[2].image, pair.flawed)
    assert np.array_equal(samples[4].image, whole_pair(first + 1).flawed)


@pytest.mark.parametrize(("split", "scenes"), [("tset", 1), ("test", 0), ("test", 10**9)])
def test_no_such_scenes(split, scenes):
    with pytest.raises(InvalidInput):
        RenderedScenes(scenes, split)


def test_exported_scenes_come_back_whole(tmp_path):
    scenes = RenderedScenes(3, "test", decoded=False)
    export((scenes[i] for i in range(len(scenes))), tmp_path, "test")
    again = SynthScars(tmp_path, "test")
    assert len(again) == 6 and not again.skipped
    for i in range(6):
        mine, theirs = scenes[i], again[i]
        assert np.array_equal(mine.image, theirs.image)
        assert {f.phrase for f in mine.findings} == {f.phrase for f in theirs.findings}
        for finding in mine.findings:
            assert any(np.array_equal(finding.mask, other.mask) for other in theirs.findings)

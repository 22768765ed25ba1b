"""Pairs survive the way to disk and back, and are made only once."""

import numpy as np
import pytest

from contracts.errors import InvalidInput
from tabletop import data
from tabletop.flaws import render_pair
from tabletop.scenes import SEED_RANGES, solid_count


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    old, data.SHARD = data.SHARD, 4
    data.make("test", 8, folder, processes=1)
    yield folder
    data.SHARD = old


def test_round_trip(folder):
    stored = data.load("test", 8, folder)
    assert len(stored) == 8
    for i in range(8):
        seed = SEED_RANGES["test"][0] + i
        pair = render_pair(seed, objects=solid_count(seed))
        assert np.array_equal(stored.clean[i], pair.clean) and np.array_equal(stored.flawed[i], pair.flawed)
        assert stored.scenes[i] == pair.scene
        assert tuple(stored.flags[i]) == pair.flags
        for read, made in zip(stored.findings(i), pair.findings, strict=True):
            assert np.array_equal(read.mask, made.mask)
            assert (read.phrase, read.explanation, read.category) == (
                made.phrase,
                made.explanation,
                made.category,
            )


def test_another_world_is_not_taken_for_this_one(folder, monkeypatch):
    monkeypatch.setattr(data, "WORLD", data.WORLD + 1)
    with pytest.raises(InvalidInput, match="has 0 'test' pairs"):
        data.load("test", 4, folder)


def test_an_existing_shard_is_not_made_again(folder):
    path = next(folder.glob("*.npz"))
    before = path.stat().st_mtime_ns
    data.make("test", 8, folder, processes=1)
    assert path.stat().st_mtime_ns == before


def test_too_few_pairs_says_how_to_make_them(folder):
    with pytest.raises(InvalidInput, match="legion train data"):
        data.load("test", 100, folder)

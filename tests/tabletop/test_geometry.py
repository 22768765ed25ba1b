"""The geometry check: clean renders pass, warped ones do not, and labels for paintings follow from that."""

from pathlib import Path

import numpy as np
import pytest

from contracts.errors import CheckpointError
from contracts.records import CATEGORIES
from tabletop import geometry, paintings
from tabletop.flaws import render_pair
from tabletop.geometry import GeometryCheck
from tabletop.scenes import SEED_RANGES, sample_scene, solid_count

FOLDER = Path("tabletop/weights/geometry")
FIRST = SEED_RANGES["test"][0]


@pytest.fixture(scope="module")
def check():
    return GeometryCheck.load(FOLDER)


@pytest.fixture(scope="module")
def pairs():
    return [render_pair(seed, objects=solid_count(seed)) for seed in range(FIRST, FIRST + 60)]


def shapes_of(pairs):
    return [pair.scene.shapes for pair in pairs]


def test_standard_frame_forgets_place_and_size():
    y, x = np.mgrid[0:64, 0:64].astype(np.float32) + 0.5
    far = (np.hypot(x - 20, y - 22) < 8).astype(np.float32)
    near = (np.hypot(x - 40, y - 36) < 16).astype(np.float32)
    outlines = [geometry.standard(mask, mask)[0] for mask in (far, near)]
    overlap = np.minimum(*outlines).sum() / np.maximum(*outlines).sum()
    assert overlap > 0.93
    tall = (np.hypot((x - 32) * 2, y - 32) < 16).astype(np.float32)
    outline = geometry.standard(tall, tall)[0]
    assert np.minimum(outline, outlines[1]).sum() / np.maximum(outline, outlines[1]).sum() < 0.8


def test_one_solid_leaves_the_right_cover_empty():
    single = np.ones((1, 4, 4), np.float32)
    assert geometry.covers_of(single).shape == (2, 4, 4)
    assert not geometry.covers_of(single)[1].any()
    assert geometry.covers_of(np.ones((2, 4, 4), np.float32)).all()


def test_missing_check_says_what_to_do(tmp_path):
    with pytest.raises(CheckpointError, match="legion train geometry"):
        GeometryCheck.load(tmp_path)


@pytest.mark.slow
def test_clean_renders_pass_and_warped_ones_do_not(check, pairs):
    clean, flawed = geometry.pictures_of(pairs)
    shapes = shapes_of(pairs)
    passed = [check.sound(fits, names) for fits, names in zip(check.fits(clean, shapes), shapes, strict=True)]
    assert np.mean(passed) >= 0.85
    warped = [
        i for i, pair in enumerate(pairs) if {"bend", "squeeze", "melt", "missing part"} & set(pair.kinds)
    ]
    assert len(warped) >= 8
    fits = check.fits(flawed[warped], [shapes[i] for i in warped])
    caught = [not check.sound(found, shapes[i]) for found, i in zip(fits, warped, strict=True)]
    assert np.mean(caught) >= 0.85


@pytest.mark.slow
def test_shape_that_was_not_asked_for_does_not_fit(check, pairs):
    balls = [p for p in pairs if p.scene.shapes == ["ball"]]
    pictures = np.stack([p.clean for p in balls])
    fits = check.fits(pictures, [["cone"]] * len(balls))
    assert not any(check.sound(found, ["cone"]) for found in fits)


@pytest.mark.slow
def test_second_solid_that_is_not_there_is_missing(check, pairs):
    single = [p for p in pairs if len(p.scene.solids) == 1][:8]
    pictures = np.stack([p.clean for p in single])
    fits = check.fits(pictures, [[p.scene.solids[0].shape, "ball"] for p in single])
    assert all(found[1].outline == 0 for found in fits)
    assert check.misshapen(pictures, [[p.scene.solids[0].shape, "ball"] for p in single]) == [None] * len(
        single
    )


@pytest.mark.slow
def test_paintings_are_labeled_only_where_all_was_asked_for(check, pairs):
    asked = [CATEGORIES if k % 2 else CATEGORIES[:1] for k in range(len(pairs))]
    made = [paintings.Painting(p.flawed, p.scene, a) for p, a in zip(pairs, asked, strict=True)]
    known, rest = paintings.labeled(made, check)
    assert len(known) + len(rest) == len(pairs)
    assert all(len(p.modifiers) == len(CATEGORIES) for p in known.paintings)
    samples = [known[i] for i in range(len(known))]
    assert {bool(s.findings) for s in samples} == {True, False}
    assert all(f.category == "structure" and f.mask.any() for s in samples for f in s.findings)
    assert all(s.is_real is False for s in samples)
    assert all(set(rest[i].attributes) == {-1} and not rest[i].findings for i in range(len(rest)))


def test_modifiers_are_drawn_the_same_each_time():
    first = paintings.modifiers_for(200, seed=5, all_share=0.5)
    assert (
        first
        == paintings.modifiers_for(200, seed=5, all_share=0.5)
        != paintings.modifiers_for(200, seed=6, all_share=0.5)
    )
    full = np.mean([len(m) == len(CATEGORIES) for m in first])
    assert 0.45 < full < 0.7
    assert sample_scene(3, solid_count(3)) == sample_scene(3, solid_count(3))

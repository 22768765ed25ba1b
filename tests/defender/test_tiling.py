"""Tiles: they cover the picture, masks land where they were seen, and an artifact is reported once."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidInput
from contracts.records import Box, Diagnosis, Finding, Usage
from defender.tiling import TiledDefender, Tiling, findings_of_tile, merge, plan, scales, starts


def patch(left, top, right, bottom, size=(192, 192), confidence=0.9, category="physics"):
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return Finding(mask, "a patch", "it is there.", category, confidence)


class MarksRed:
    """Finds the red pixels of a picture it sees at `native` pixels; less than four of those it overlooks."""

    name = "marks red"

    def __init__(self, native=64):
        self.native, self.shown = native, []

    def diagnose(self, images):
        self.shown += [image.shape for image in images]
        return [self._one(image) for image in images]

    def _one(self, image):
        red = (image[..., 0] == 255) & (image[..., 1] == 0)
        scale = self.native / max(image.shape[:2])
        if red.sum() * scale**2 < 4:
            return Diagnosis((), 0.25, "clean")
        return Diagnosis((Finding(red, "red", "red.", "physics", 0.9),), 0.25, "red")

    def describe(self):
        return {"name": self.name}


sizes = st.integers(1, 400)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(1, 8), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_tiles_of_a_scale_cover_the_picture_and_stay_inside(height, width, zoom, overlap):
    boxes = plan(height, width, Tiling(zoom, overlap, smallest=16))
    for side in {max(b.right - b.left, b.bottom - b.top) for b in boxes}:
        covered = np.zeros((height, width), dtype=bool)
        for box in boxes:
            if max(box.right - box.left, box.bottom - box.top) == side:
                assert 0 <= box.left < box.right <= width and 0 <= box.top < box.bottom <= height
                covered[box.top : box.bottom, box.left : box.right] = True
        assert covered.all()
    assert len(boxes) == len(set(boxes))
    if boxes:
        assert max(height, width) > 16


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 500), st.floats(0, 0.9))
def test_neighbors_overlap_by_the_share_or_more(length, side, overlap):
    at = starts(length, side, overlap)
    assert at[0] == 0 and at == sorted(set(at))
    if len(at) > 1:
        assert at[-1] + side == length
        widest = max(b - a for a, b in zip(at, at[1:], strict=False))
        assert widest <= max(1, math.floor(side * (1 - overlap))) + 1


def test_scales_double_up_to_the_zoom():
    assert scales(1) == [] and scales(2) == [2] and scales(3) == [2, 3] and scales(8) == [2, 4, 8]


def test_a_small_picture_is_not_cut():
    assert plan(64, 64, Tiling(4)) == [] and plan(1, 1, Tiling(4)) == []
    assert {b.right - b.left for b in plan(100, 100, Tiling(4))} == {64}


def test_a_long_picture_stays_within_bounds():
    boxes = plan(10, 20000, Tiling(3))
    assert {b.bottom - b.top for b in boxes} == {10} and len(boxes) < 20


def test_whole_artifacts_of_tiles_come_back_at_full_size():
    tile = Diagnosis((patch(10, 12, 20, 22, (64, 64)),))
    (found,) = findings_of_tile(tile, Box(100, 50, 164, 114), 192, 192)
    assert found.box == Box(110, 62, 120, 72) and found.mask.shape == (192, 192)


@pytest.mark.parametrize(
    ("box", "where", "kept"),
    [
        (Box(64, 64, 128, 128), (0, 10, 9, 20), False),
        (Box(64, 64, 128, 128), (10, 0, 20, 9), False),
        (Box(64, 64, 128, 128), (50, 10, 64, 20), False),
        (Box(64, 64, 128, 128), (10, 50, 20, 64), False),
        (Box(0, 0, 64, 64), (0, 0, 9, 9), True),
        (Box(128, 128, 192, 192), (50, 50, 64, 64), True),
    ],
)
def test_what_an_inner_border_cuts_is_left_to_another_tile(box, where, kept):
    found = findings_of_tile(Diagnosis((patch(*where, (64, 64)),)), box, 192, 192)
    assert bool(found) == kept


def test_duplicates_are_one_and_the_surest_stays():
    whole, closer = patch(50, 50, 80, 80, confidence=0.6), patch(52, 52, 82, 82, confidence=0.8)
    inside, apart = patch(60, 60, 70, 70, confidence=0.5), patch(120, 120, 140, 140, confidence=0.4)
    assert merge([whole, closer, inside, apart], 0.5, 0.7) == [closer, apart]


def test_of_equals_the_first_stays():
    first, second = patch(50, 50, 80, 80), patch(50, 50, 80, 80)
    assert merge([first, second], 0.5, 0.7) == [first]


def test_another_category_or_little_overlap_is_another_artifact():
    a = patch(50, 50, 80, 80)
    others = [patch(50, 50, 80, 80, category="structure"), patch(75, 50, 105, 80)]
    assert len(merge([a, *others], 0.5, 0.7)) == 3


def test_tiles_find_what_the_whole_view_overlooks():
    picture = np.full((256, 256, 3), 90, np.uint8)
    picture[101:106, 170:175] = (255, 0, 0)
    assert MarksRed().diagnose([picture])[0].findings == ()
    tiled = TiledDefender(MarksRed(), Tiling(4))
    (diagnosis,) = tiled.diagnose([picture])
    (found,) = diagnosis.findings
    assert found.box == Box(170, 101, 175, 106)
    assert (diagnosis.synthetic_probability, diagnosis.answer) == (0.25, "clean")


def test_what_is_not_sure_enough_is_dropped():
    picture = np.full((256, 256, 3), 90, np.uint8)
    picture[101:106, 170:175] = (255, 0, 0)
    strict = TiledDefender(MarksRed(), Tiling(4, min_confidence=0.95))
    assert strict.diagnose([picture])[0].findings == ()
    picture[40:80, 40:80] = (255, 0, 0)
    assert strict.diagnose([picture])[0].findings == ()


def test_what_tiles_took_is_part_of_the_picture():
    class Paid(MarksRed):
        def diagnose(self, images):
            return [replace(found, usage=Usage(1, 10, 2)) for found in super().diagnose(images)]

    inner = Paid()
    (diagnosis,) = TiledDefender(inner, Tiling(3)).diagnose([np.full((200, 160, 3), 90, np.uint8)])
    looks = len(inner.shown)
    assert looks > 1 and diagnosis.usage == Usage(looks, 10 * looks, 2 * looks)


def test_zoom_one_is_the_defender_itself():
    inner = MarksRed()
    picture = np.full((256, 256, 3), 90, np.uint8)
    TiledDefender(inner, Tiling(1)).diagnose([picture])
    assert inner.shown == [(256, 256, 3)]


def test_pictures_do_not_mix():
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(3):
        picture = np.full((200, 160, 3), 90, np.uint8)
        y, x = rng.integers(0, 150, 2)
        picture[y : y + 8, x : x + 8] = (255, 0, 0)
        pictures.append(picture)
    tiled = TiledDefender(MarksRed(), Tiling(3))
    for picture, diagnosis in zip(pictures, tiled.diagnose(pictures), strict=True):
        alone = tiled.diagnose([picture])[0]
        assert [f.box for f in diagnosis.findings] == [f.box for f in alone.findings]
        red = picture[..., 1] == 0
        assert all((f.mask & red).sum() == f.mask.sum() for f in diagnosis.findings)


def test_the_record_says_how_it_looked():
    said = TiledDefender(MarksRed(), Tiling(2)).describe()
    assert said["name"] == "marks red" and said["tiling"]["zoom"] == 2


@pytest.mark.parametrize("wrong", [{"zoom": 0}, {"zoom": 17}, {"overlap": 1.0}, {"smallest": 0}])
def test_senseless_tilings_are_refused(wrong):
    with pytest.raises(InvalidInput):
        Tiling(**wrong)

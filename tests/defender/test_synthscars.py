"""SynthScars' schema: what we write we read, and the quirks of the real files are met."""

import json

import numpy as np
import pytest
from PIL import Image

from contracts.errors import InvalidInput
from contracts.records import Finding
from defender.answers import parse
from defender.datasets import Sample
from defender.synthscars import SynthScars, assign_spans, export, read_rows

RECTANGLE = [[2, 2, 10, 2, 10, 6, 2, 6]]


def finding(phrase, explanation, category, mask):
    return Finding(mask, phrase, explanation, category, 1.0)


def ref(sentence, explanation="is wrong", segmentation=RECTANGLE, **more):
    return {"sentence": sentence, "explanation": explanation, "segmentation": segmentation, **more}


def write(root, rows, split="test", spelling="annotations", pictures=("a.png",)):
    (root / split / "images").mkdir(parents=True)
    (root / split / spelling).mkdir()
    (root / split / spelling / f"{split}.json").write_text(json.dumps(rows))
    for name in pictures:
        Image.new("RGB", (20, 10)).save(root / split / "images" / name)
    return root


def row(refs, caption="", name="one", image="test/images/a.png"):
    return {name: {"img_file_name": image, "caption": caption, "refs": refs}}


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    ring = np.zeros((16, 24), bool)
    ring[3:12, 4:15] = True
    ring[5:9, 7:10] = False
    noise = rng.random((16, 24)) < 0.2
    picture = rng.integers(0, 255, (16, 24, 3), dtype=np.uint8)
    return [
        Sample(picture, ()),
        Sample(
            picture[::-1],
            (
                finding("the cone", "It floats.", "physics", ring),
                finding("the ball", "It has two shadows.", "physics", noise),
                finding("the cone", "Its edge is torn!", "distortion", ~ring),
            ),
        ),
    ]


def test_what_is_exported_comes_back(tmp_path, samples):
    assert export(samples, tmp_path, "train") == 2
    again = SynthScars(tmp_path, "train")
    assert len(again) == 2 and again.skipped == ()
    for i, sample in enumerate(samples):
        assert np.array_equal(again[i].image, sample.image)
        assert again[i].is_real is False
        assert len(again[i].findings) == len(sample.findings)
        for ours, theirs in zip(again[i].findings, sample.findings, strict=True):
            assert np.array_equal(ours.mask, theirs.mask)
            assert ours.phrase == theirs.phrase and ours.category == theirs.category
            assert ours.explanation == theirs.explanation
    with pytest.raises(InvalidInput, match="exists"):
        export(samples, tmp_path, "train")


def test_equal_phrases_keep_their_own_explanation_and_place(tmp_path, samples):
    export(samples, tmp_path, "train")
    _, row = read_rows(tmp_path, "train")[0]
    spans = [r.span for r in row.refs]
    assert len(set(spans)) == 3 and None not in spans
    for r in row.refs:  # the place is where the phrase is explained, not the summary
        assert row.caption[slice(*r.span)] == r.phrase
        assert row.caption[r.span[1] :].startswith(f" :{r.explanation}")


def test_places_go_to_the_best_claim_first():
    caption = "A hand, a hand. Hand :bent. Hand :six fingers."
    assert assign_spans(caption, [("Hand", "six fingers"), ("Hand", "bent")]) == [(28, 32), (16, 20)]
    assert assign_spans(caption, [("Hand", ""), ("Hand", ""), ("Hand", "")]) == [(16, 20), (28, 32), None]
    assert assign_spans(caption, [("hand", "x"), ("", "x"), ("foot", "x")]) == [(2 + 0, 6), None, None]


@pytest.mark.parametrize("spelling", ["annotations", "annoations"])
def test_either_spelling_of_the_folder(tmp_path, spelling):
    write(tmp_path, [row([ref("x")])], spelling=spelling)
    assert len(SynthScars(tmp_path, "test")) == 1


def test_test_annotations_beside_the_training_ones(tmp_path):
    write(tmp_path, [row([ref("x")], image="train/images/a.png")], split="train")
    (tmp_path / "train" / "annotations" / "train.json").rename(
        tmp_path / "train" / "annotations" / "test.json"
    )
    assert SynthScars(tmp_path, "test")[0].findings[0].mask.sum() == 32


def test_order_is_the_captions_and_unmentioned_artifacts_are_kept(tmp_path):
    refs = [ref("not there"), ref("b"), ref("a")]
    write(tmp_path, [row(refs, "a :is wrong. b :is wrong.")])
    assert [f.phrase for f in SynthScars(tmp_path, "test")[0].findings] == ["a", "b", "not there"]


def test_overlapping_polygons_are_one_mask(tmp_path):
    write(tmp_path, [row([ref("x", segmentation=RECTANGLE * 2)])])
    mask = SynthScars(tmp_path, "test")[0].findings[0].mask
    assert mask.dtype == bool and mask.sum() == 32


def test_missing_explanations_are_read_off_the_caption(tmp_path):
    caption = "'x and y. x :is bent. y : melts.'"
    write(
        tmp_path, [row([ref("x", ""), {"sentence": "y", "segmentation": RECTANGLE}, ref("z", "")], caption)]
    )
    said = [f.explanation for f in SynthScars(tmp_path, "test")[0].findings]
    assert said == ["is bent.", "melts.", ""]


def test_artifacts_without_an_inside_are_skipped_and_told(tmp_path):
    line = [[3, 3, 9, 3, 3, 3]]
    rows = [
        row([ref("x"), ref("y", segmentation=line)], name="1"),
        row([ref("y", segmentation=line)], name="2"),
        row([], name="3"),
    ]
    found = SynthScars(write(tmp_path, rows), "test")
    assert [r.name for r in found.rows] == ["1", "3"]
    assert [len(found[i].findings) for i in range(2)] == [1, 0]
    assert found.skipped == (
        "row 1: artifact 1 covers nothing",
        "row 2: artifact 0 covers nothing",
        "row 2: no usable artifact",
    )


def test_twins_of_another_ending_are_other_pictures(tmp_path):
    rows = [row([], name="p"), row([], name="j", image="test/images/a.jpg")]
    write(tmp_path, rows, pictures=("a.png", "a.jpg"))
    assert [r.image.name for r in SynthScars(tmp_path, "test").rows] == ["a.png", "a.jpg"]
    (tmp_path / "test" / "images" / "a.jpg").unlink()
    with pytest.raises(InvalidInput, match=r"a\.jpg does not exist"):
        SynthScars(tmp_path, "test")[1]


def test_an_index_is_always_the_same_row(tmp_path):
    rows = [row([ref(f"phrase {i}")], name=str(i)) for i in range(5)]
    found = SynthScars(write(tmp_path, rows), "test")
    assert [found[i].findings[0].phrase for i in (3, 0, 3)] == ["phrase 3", "phrase 0", "phrase 3"]


def test_artifacts_outside_the_picture(tmp_path):
    outside = [[100, 100, 110, 100, 110, 110]]
    write(tmp_path, [row([ref("x", segmentation=outside)])])
    with pytest.raises(InvalidInput, match="inside the picture"):
        SynthScars(tmp_path, "test")[0]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({}, "list of rows"),
        ([{}], "row 0"),
        ([{"a": {}}], "row 0"),
        ([{"a": {"caption": "", "img_file_name": "a.png", "refs": [{}]}}], "segmentation"),
        ([row([ref("x", segmentation=[[1, 2, 3]])])], "odd number"),
        ([row([ref("x", segmentation=[[1, 2, float("nan"), 3, 4, 5]])])], "coordinate"),
        ([row([], image="../secret.png")], "outside"),
        ([row([], image="/etc/hostname")], "outside"),
        ([row([ref(7)])], "not text"),
    ],
)
def test_other_schemas_are_refused_in_one_line(tmp_path, rows, told):
    with pytest.raises(InvalidInput, match=told) as caught:
        SynthScars(write(tmp_path, rows), "test")
    assert "\n" not in str(caught.value)


def test_missing_and_broken_annotations(tmp_path):
    with pytest.raises(InvalidInput, match="does not exist"):
        SynthScars(tmp_path, "test")
    write(tmp_path, [])
    (tmp_path / "test" / "annotations" / "test.json").write_text("[")
    with pytest.raises(InvalidInput, match="JSON"):
        SynthScars(tmp_path, "test")


def test_the_rows_own_text_is_what_is_learnt(tmp_path):
    refs = [ref("not there", "it melts"), ref("b", "is wrong"), ref("a", "is wrong"), ref("bare", "")]
    write(tmp_path, [row(refs, "Found: a, b [SEG]. a :is wrong. b :is wrong.")])
    sample = SynthScars(tmp_path, "test")[0]
    assert sample.answer == (
        "Found: a, b . <p> a </p> [SEG] :is wrong. <p> b </p> [SEG] :is wrong. "
        "<p> not there </p> [SEG] : it melts. <p> bare </p> [SEG]"
    )
    assert [claim.phrase for claim in parse(sample.answer)] == [f.phrase for f in sample.findings]


def test_what_lies_outside_the_picture_is_not_said(tmp_path):
    outside = [[100, 100, 110, 100, 110, 110]]
    refs = [ref("a", segmentation=outside), ref("b")]
    write(tmp_path, [row(refs, "a :is wrong. b :is wrong."), row([], "a clean one", name="2")])
    flawed, clean = SynthScars(tmp_path, "test")
    assert flawed.answer == "a :is wrong. <p> b </p> [SEG] :is wrong."
    assert clean.answer == "" and clean.caption == "a clean one"  # which is taught in our own words


def test_a_phrase_inside_another_leaves_that_its_place():
    caption = "left hand :missing. hand :bent."
    assert assign_spans(caption, [("hand", ""), ("left hand", "")]) == [(20, 24), (0, 9)]
    assert assign_spans("left hand", [("hand", ""), ("left hand", "")]) == [None, (0, 9)]

"""Annotations in SynthScars' schema are read as the original loaders read them, their defects aside."""

import json
from pathlib import Path

import numpy as np

from defender.polygons import mask_of_polygons, outlined_mask
from defender.synthscars import Ref, Row, read_row, tagged


def test_one_record(folder, numbers, tmp_path):
    case, data = json.loads((folder / "dataset_case.json").read_text()), numbers("dataset_case")
    ((name, values),) = case["record"][0].items()
    shape = (case["height"], case["width"])
    row, notes = read_row(name, values, tmp_path, "train")
    assert row.caption == case["caption"] and notes == []
    mentioned = [ref for ref in row.refs if ref.span is not None]  # all that the original keeps
    assert [ref.phrase for ref in mentioned] == case["labels"]
    assert [list(ref.span) for ref in mentioned] == case["tokens_positive"]
    for ref, raw in zip(mentioned, data["train_masks_raw"].numpy(), strict=True):
        single = [mask_of_polygons([polygon], shape) for polygon in ref.polygons]
        assert np.array_equal(np.sum(single, axis=0), raw)
        assert np.array_equal(mask_of_polygons(ref.polygons, shape), raw > 0)  # ours: overlaps count once
    union = outlined_mask([polygon for ref in row.refs for polygon in ref.polygons], shape)
    assert np.array_equal(union, data["eval_union_mask_fillpoly"].numpy() > 0)


def test_captions_are_tagged_as_the_original_tags_them(folder):
    cases = json.loads((folder / "text_cases.json").read_text())["train_conversations"]
    assert any(len(case["spans"]) > 1 for case in cases)
    for case in cases:
        caption = case["caption"]
        refs = tuple(Ref(caption[a:b], "", (), "physics", (a, b)) for a, b in case["spans"])
        assert tagged(Row("", Path(), caption, refs)) == case["tagged"]

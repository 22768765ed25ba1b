"""Annotations in SynthScars' schema are read as the original loaders read them, their defects aside."""

import json

import numpy as np

from defender.polygons import mask_of_polygons, outlined_mask
from defender.synthscars import read_row


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

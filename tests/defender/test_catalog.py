"""Every kind of data set opens by its name, and says in one line when it is not there."""

import json

import numpy as np
import pytest
from PIL import Image

from contracts.errors import InvalidInput
from defender.catalog import KINDS, open_samples
from defender.datasets import Sample
from defender.synthscars import export


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_there_is_one_line(tmp_path, kind):
    with pytest.raises(InvalidInput) as caught:
        open_samples(kind, tmp_path / "nothing")
    assert "\n" not in str(caught.value) and "nothing" in str(caught.value)


def test_kinds_open_what_they_name(tmp_path):
    image = np.zeros((4, 6, 3), np.uint8)
    export([Sample(image, ())], tmp_path / "scars", "test")
    for place in ("plain", "tests/gan/1_fake", "loki"):
        (tmp_path / place).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / place / "a.png")
    (tmp_path / "loki" / "loki.json").write_text(json.dumps([{"image_path": "a.png"}]), encoding="utf-16")
    for kind, place, is_real in (
        ("synthscars", "scars", False),
        ("plain", "plain", None),
        ("folders", "tests", False),
        ("loki", "loki", False),
    ):
        samples = open_samples(kind, tmp_path / place)
        assert len(samples) == 1 and samples[0].is_real is is_real
        assert np.array_equal(samples[0].image, image) and samples[0].findings == ()


def test_unknown_kinds_are_named():
    with pytest.raises(InvalidInput, match="choose plain, folders"):
        open_samples("imagenet", None)

"""Folders, LOKI and RichHF-18K: the same index, the same sample; broken pictures are counted and named."""

import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from contracts.errors import InvalidInput
from defender.annotated import Loki, RichHF
from defender.folders import GeneratorFolders, PlainFolder, Subset, inspect


def picture(path, value=0, size=(20, 10)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


def test_plain_folder_with_a_broken_picture(tmp_path):
    for i in range(4):
        picture(tmp_path / f"{i}.png", 10 * i)
    (tmp_path / "1.png").write_text("no picture")
    samples = PlainFolder(tmp_path)
    found = inspect(samples)
    assert found.usable == (0, 2, 3) and [index for index, _ in found.broken] == [1]
    assert found.report.startswith("1 of 4 samples cannot be used\n  1: image ")
    usable = Subset(samples, found.usable)
    assert [int(usable[i].image[0, 0, 0]) for i in range(len(usable))] == [0, 20, 30]
    with pytest.raises(InvalidInput, match=r"1\.png"):
        samples[1]
    with pytest.raises(InvalidInput, match="no pictures"):
        PlainFolder(tmp_path / "..", True)


def test_generators_real_and_fake(tmp_path):
    for place, value in (
        ("progan/cat/0_real", 1),
        ("progan/cat/1_fake", 2),
        ("progan/dog/1_fake", 3),
        ("ldm/0_real", 4),
        ("ldm/1_fake", 5),
    ):
        picture(tmp_path / place / "a.png", value)
    picture(tmp_path / "ldm" / "other" / "a.png")
    samples = GeneratorFolders(tmp_path)
    assert [samples.name(i) for i in range(len(samples))] == [
        "ldm/0_real/a.png",
        "ldm/1_fake/a.png",
        "progan/cat/0_real/a.png",
        "progan/cat/1_fake/a.png",
        "progan/dog/1_fake/a.png",
    ]
    assert samples.groups == ("ldm", "ldm", "progan", "progan", "progan")
    assert [samples[i].is_real for i in range(5)] == [True, False, True, False, False]
    assert [int(samples[i].image[0, 0, 0]) for i in range(5)] == [4, 5, 1, 2, 3]
    with pytest.raises(InvalidInput, match="0_real"):
        GeneratorFolders(tmp_path / "ldm" / "other")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_loki_boxes(tmp_path, encoding):
    picture(tmp_path / "images" / "a.png")
    regions = [
        {"region": [2, 3, 4, 2], "desc": "The shadow falls the wrong way"},
        {"region": [15, 5, 99, 99], "desc": ""},
        {"region": [50, 50, 1, 1], "desc": "outside"},
    ]
    rows = [{"image_path": "images/a.png", "problems": {"regional": regions}}, {"image_path": "images/b.png"}]
    (tmp_path / "loki.json").write_text(json.dumps(rows), encoding=encoding)
    samples = Loki(tmp_path / "loki.json", tmp_path)
    first, second = samples[0].findings
    assert (first.box, first.category) == ((2, 3, 7, 6), "physics")
    assert second.box == (15, 5, 20, 10)
    assert samples[0].is_real is False
    assert [index for index, _ in inspect(samples).broken] == [1]


@pytest.mark.parametrize(
    "content",
    ["[", "{}", '[{"problems": {}}]', '[{"image_path": "../a.png"}]', '[{"image_path": "a", "problems": 1}]'],
)
def test_loki_in_another_schema(tmp_path, content):
    (tmp_path / "loki.json").write_text(content)
    with pytest.raises(InvalidInput) as caught:
        Loki(tmp_path / "loki.json", tmp_path)
    assert "\n" not in str(caught.value)


def field(number, data):
    """A length-delimited field of a protocol buffer."""
    length = len(data)
    size = b""
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + data


def record(name, heat):
    encoded = io.BytesIO()
    Image.fromarray(heat).save(encoded, "PNG")
    features = b""
    for key, feature in (
        ("filename", field(1, field(1, name.encode()))),
        ("artifact_map", field(1, field(1, encoded.getvalue()))),
        ("artifact_score", field(2, field(1, struct.pack("<f", 0.5)))),
    ):
        features += field(1, field(1, key.encode()) + field(2, feature))
    data = field(1, features)
    return struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)


def test_richhf_heat_maps(tmp_path):
    heat = np.zeros((10, 20), np.uint8)
    heat[2:5, 3:9] = 200
    heat[6:8] = 100
    content = record("train/a.png", heat) + record("train/b.png", np.zeros((512, 512), np.uint8))
    (tmp_path / "test.tfrecord").write_bytes(content)
    for name in "ab":
        picture(tmp_path / "train" / f"{name}.png")
    samples = RichHF(tmp_path / "test.tfrecord", tmp_path)
    (only,) = samples[0].findings
    assert only.box == (3, 2, 9, 5) and samples.name(0) == "train/a.png"
    assert samples[1].findings == () and len(samples) == 2
    lower = RichHF(tmp_path / "test.tfrecord", tmp_path, threshold=0.3)
    assert lower[0].findings[0].mask[6:8].all()
    with pytest.raises(InvalidInput, match="threshold"):
        RichHF(tmp_path / "test.tfrecord", tmp_path, threshold=0)


@pytest.mark.parametrize("cut", [3, 20, -1])
def test_a_tfrecord_cut_short(tmp_path, cut):
    whole = record("a.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "test.tfrecord").write_bytes(whole[:cut])
    with pytest.raises(InvalidInput, match="cut short"):
        RichHF(tmp_path / "test.tfrecord", tmp_path)


def test_a_tfrecord_of_something_else(tmp_path):
    for data in (b"\xff" * 12, field(1, b""), field(1, field(1, b"\x0a\xff"))):
        content = struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)
        (tmp_path / "test.tfrecord").write_bytes(content)
        with pytest.raises(InvalidInput, match="record 0"):
            RichHF(tmp_path / "test.tfrecord", tmp_path)


def test_chained_sets_keep_their_order_and_count_twice_when_given_twice():
    from defender.datasets import Chained

    chained = Chained("ab", "", "cd", "cd")  # type: ignore[arg-type]
    assert [chained[i] for i in range(len(chained))] == list("abcdcd")
    with pytest.raises(IndexError):
        chained[6]

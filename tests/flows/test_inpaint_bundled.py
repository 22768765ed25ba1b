"""`legion inpaint` on the bundled weights, with pictures of sizes that no model was taught."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image as Pillow

from flows.cli import main

pytestmark = pytest.mark.slow

SIZES = {"odd": (67, 53), "panorama": (200, 24), "speck": (5, 7)}
"""Width and height."""
QUICK = ["--no-prefect", "--rounds", "1", "--candidates", "1", "--steps", "2"]


def scene(width: int, height: int) -> Pillow.Image:
    """A rendered scene with an artifact, cut or repeated to a size."""
    from tabletop.flaws import render_pair

    flawed = render_pair(10_950_003).flawed
    tiles = np.tile(flawed, (-(-height // 64), -(-width // 64), 1))
    return Pillow.fromarray(np.ascontiguousarray(tiles[:height, :width]))


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, size in SIZES.items():
        scene(*size).save(tmp_path / "in" / f"{name}.png")
        Pillow.new("L", size, 255).save(tmp_path / f"{name}-mask.png")
    return tmp_path / "in"


def decoded(path):
    return np.array(Pillow.open(path).convert("RGBA"))


def check(run, name):
    """Size, proof and the check of docs/inpainting.md."""
    before, after, support = (
        decoded(run["input"]),
        decoded(run["output"]),
        np.array(Pillow.open(run["support"])),
    )
    assert after.shape == before.shape == (SIZES[name][1], SIZES[name][0], 4) == (*support.shape, 4)
    assert (before == after)[support == 0].all()
    (first,) = run["rounds"]
    assert len(first["outside"]) == 64 and first["stop"]
    for region in first["regions"]:
        assert region["accepted"] is not None and region["reason"]
        (candidate,) = region["candidates"]
        with Pillow.open(candidate["painted"]) as painted:
            assert list(painted.size) == region["painted_at"]
            assert all(side % 8 == 0 for side in painted.size)
    return support


def test_an_all_white_mask_repaints_pictures_of_any_size(pictures, capsys):
    lines = [{"image": f"in/{name}.png", "mask": f"{name}-mask.png"} for name in SIZES]
    (pictures.parent / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert main(["inpaint", "list.jsonl", *QUICK, "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    for name, run in zip(SIZES, runs, strict=True):
        assert check(run, name).all() and len(run["rounds"][0]["regions"]) == 1


def test_the_defender_looks_at_pictures_of_any_size(pictures, capsys):
    assert main(["inpaint", str(pictures), *QUICK, "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    for name, run in zip(sorted(SIZES), runs, strict=True):
        check(run, name)

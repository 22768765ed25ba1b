"""Both loops with a painter on a server: the same command line, gate and compositing as for any other."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image as Pillow
from scripted_server import send

from flows.cli import main
from flows.profiles.loading import BUNDLED
from flows.settings import CHECKOUT

pytestmark = pytest.mark.slow


def painted(color):
    file = io.BytesIO()
    Pillow.new("RGB", (64, 64), color).save(file, "PNG")
    data = [{"b64_json": base64.b64encode(file.getvalue()).decode()}]
    return send(200, json.dumps({"created": 1, "data": data}))


@pytest.fixture
def profile(scripted_server, tmp_path):
    from flows import assemble

    text = (BUNDLED / "tabletop.toml").read_text().replace('path = "tabletop/weights/inpainter"\n', "")
    text = text.replace('"tabletop/', f'"{CHECKOUT}/tabletop/')
    begin, end = text.index("[generator]"), text.index("[defender]")
    section = (
        f'[generator]\nkind = "openai-images"\nmodel = "painter"\nbase_url = "{scripted_server.url}"\n'
        "width = 64\nheight = 64\nattempts = 1\n\n"
    )
    path = tmp_path / "remote.toml"
    path.write_text(text[:begin] + section + text[end:])
    cached = assemble.regeneration_tools, assemble.inpainting_tools
    for part in cached:
        part.cache_clear()
    yield str(path)
    for part in cached:
        part.cache_clear()


def said(capsys, *words):
    code = main([*map(str, words), "--json", "--no-prefect"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)["runs"][0]


def test_regeneration_and_repair_by_a_server(profile, scripted_server, tmp_path, capsys, monkeypatch):
    from controller.region_gate import OpenGate
    from flows import assemble

    scripted_server.say(painted((90, 120, 150)))
    words = ("--profile", profile, "--rounds", 1)
    run = said(capsys, "regenerate", "a red cone", *words, "--out", tmp_path / "made")
    picture = np.asarray(Pillow.open(run["rounds"][0]["image"]))
    assert picture.shape == (64, 64, 3) and (picture == (90, 120, 150)).all()

    monkeypatch.setattr(assemble, "MeasuredGate", lambda _settings: OpenGate())
    scripted_server.say(painted((200, 30, 30)))
    before = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    Pillow.fromarray(before).save(tmp_path / "picture.png")
    Pillow.fromarray(mask).save(tmp_path / "mask.png")
    repair = said(
        capsys, "inpaint", tmp_path / "picture.png", "--mask", tmp_path / "mask.png", "--prompt", "a cone",
        *words, "--candidates", 1, "--out", tmp_path / "repair",
    )  # fmt: skip
    after = np.asarray(Pillow.open(repair["output"]))
    support = np.asarray(Pillow.open(repair["support"])) > 0
    assert np.array_equal(after[~support], before[~support])
    assert (after[mask > 0] != before[mask > 0]).mean() > 0.9
    assert "form" in scripted_server.bodies[-1]  # an edit, not a generation


def test_the_gate_rolls_back_what_a_server_paints_over_a_good_picture(
    profile, scripted_server, tmp_path, capsys
):
    from tabletop.flaws import render_pair

    scripted_server.say(painted((200, 30, 200)))
    before = render_pair(10_950_003).clean
    mask = np.zeros((64, 64), np.uint8)
    mask[20:44, 16:48] = 255
    Pillow.fromarray(before).save(tmp_path / "picture.png")
    Pillow.fromarray(mask).save(tmp_path / "mask.png")
    run = said(
        capsys, "inpaint", tmp_path / "picture.png", "--mask", tmp_path / "mask.png", "--prompt", "a cone",
        "--profile", profile, "--rounds", 1, "--candidates", 1, "--out", tmp_path / "repair",
    )  # fmt: skip
    (region,) = run["rounds"][0]["regions"]
    assert not region["accepted"] and region["reason"] and region["chosen"] is None
    assert all(not candidate["accepted"] and candidate["reason"] for candidate in region["candidates"])
    assert "form" in scripted_server.bodies[-1]  # the server was asked, and what it painted is kept
    kept = np.asarray(Pillow.open(region["candidates"][0]["painted"]).convert("RGB"))
    assert (kept == (200, 30, 200)).all(axis=-1).any()
    assert np.array_equal(np.asarray(Pillow.open(run["output"]).convert("RGB")), before)


def test_a_server_that_fails_is_one_line(profile, scripted_server, tmp_path, capsys):
    scripted_server.say(send(500, "{}"))
    assert main(["regenerate", "a cone", "--profile", profile, "--no-prefect", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: the server") and "500" in error

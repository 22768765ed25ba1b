"""Pictures that a server sells are bought once each, and none to fill up a batch; others fill batches up."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from benchmark_world import PROFILE
from PIL import Image as Pillow
from scripted_server import send

from contracts.records import GenerationRequest, InpaintRequest
from controller.generators.remote_images import RemoteGenerator, RemoteImageSettings, RemoteInpainter
from flows.benchmark import running
from flows.benchmark.tools import Toolbox
from servers.client import Server, ServerSettings

SOLD = '[generator]\nkind = "openai-images"\nmodel = "seller"\nbase_url = "http://127.0.0.1:9/v1"\n'
PICTURES = [GenerationRequest(f"prompt {number % 3}", 1) for number in range(5)]


@pytest.fixture
def sold(world, scripted_server, tmp_path, monkeypatch):
    """A profile whose pictures come from the scripted server; its inpainter too, unless it names weights."""
    file = io.BytesIO()
    Pillow.new("RGB", (32, 32), "gray").save(file, "PNG")
    picture = {"created": 1, "data": [{"b64_json": base64.b64encode(file.getvalue()).decode()}]}
    scripted_server.say(send(200, json.dumps(picture)))
    import flows

    seller = Server(ServerSettings(scripted_server.url, timeout=5, attempts=1), environ={})
    settings = RemoteImageSettings("seller", 32, 32)
    monkeypatch.setattr(flows.assemble, "generator", lambda *_, **__: RemoteGenerator(seller, settings))
    monkeypatch.setattr(flows.assemble, "inpainter", lambda *_, **__: RemoteInpainter(seller, settings))
    path = tmp_path / "sold.toml"
    path.write_text(SOLD + PROFILE[PROFILE.index("\n[defender]") :])
    return path


def holes(sizes):
    return [
        InpaintRequest(np.zeros((size, size, 3), np.uint8), np.ones((size, size), bool), "gray", size)
        for size in sizes
    ]


def test_a_seller_is_asked_for_what_is_wanted_and_no_more(sold, scripted_server) -> None:
    box = Toolbox(str(sold), running.open_bank(), 3)
    assert len(box.generator.generate(PICTURES)) == 5
    assert sorted(body["prompt"] for body in scripted_server.bodies) == ["prompt 0", "prompt 1", "prompt 2"]
    assert len(box.inpainter.inpaint(holes([8, 8, 16]))) == 3
    assert len(scripted_server.bodies) == 5  # both holes of eight pixels are one and the same
    assert "batch" not in box.painter.describe()


def test_an_inpainter_of_its_own_beside_a_seller_still_fills_its_batches(sold, world, monkeypatch) -> None:
    import flows

    sold.write_text(sold.read_text() + '\n[inpainting]\npath = "nowhere"\n')
    sold.write_text(sold.read_text().replace("[inpainting.gate]\nmax_seam = 40\n", ""))
    monkeypatch.setattr(flows.assemble, "inpainter", lambda *_, **__: world.mender)
    box = Toolbox(str(sold), running.open_bank(), 3)
    box.inpainter.inpaint(holes([32, 32, 32]))
    assert world.mender.batches == [box.painted_at_once]


def test_whoever_paints_here_fills_batches(world, profile) -> None:
    Toolbox(str(profile), running.open_bank(), 3).generator.generate(PICTURES)
    assert world.painter.batches == [4]

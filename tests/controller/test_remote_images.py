"""Painters on a server, over real HTTP: what is sent, what comes back, and everything that can be wrong."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from email import message_from_bytes

import numpy as np
import pytest
from PIL import Image as Pillow
from scripted_server import html, send

from contracts.errors import InvalidInput, ModelError, RemoteError
from contracts.records import GenerationRequest, InpaintRequest
from controller.generators import remote_images
from controller.generators.remote_images import (
    RemoteGenerator,
    RemoteImageSettings,
    RemoteInpainter,
    on_canvas,
)
from servers.client import Server, ServerSettings

REQUESTS = [GenerationRequest("a red cone", 7), GenerationRequest("a blue ball", 8)]
IMAGE = np.random.default_rng(0).integers(0, 256, (24, 48, 3), np.uint8)
MASK = np.zeros((24, 48), bool)
MASK[8:16, 12:30] = True
EDIT = InpaintRequest(IMAGE, MASK, "a round ball", 5)


def painted(color=(10, 20, 30), size=(64, 64), mode="RGB"):
    """An answer with one picture."""
    file = io.BytesIO()
    Pillow.new(mode, size, color).save(file, "PNG")
    return answer(base64.b64encode(file.getvalue()).decode())


def answer(b64):
    return send(200, json.dumps({"created": 1, "data": [{"b64_json": b64}]}))


def refusal(name):
    return send(400, json.dumps({"error": {"message": f"Unknown parameter: '{name}'.", "code": "unknown"}}))


def server(scripted_server, **changes):
    settings = ServerSettings(scripted_server.url, **{"timeout": 2, "attempts": 2, **changes})
    return Server(settings, environ={}, sleep=lambda _: None)


@pytest.fixture
def generator(scripted_server):
    return RemoteGenerator(server(scripted_server), RemoteImageSettings("painter", 64, 64, "high"))


@pytest.fixture
def inpainter(scripted_server):
    return RemoteInpainter(server(scripted_server), RemoteImageSettings("painter", 64, 64))


def form(body, headers):
    """The parts of a multipart request by name."""
    content = b"content-type: " + headers["content-type"].encode() + b"\n\n" + body["form"]
    parts = message_from_bytes(content).get_payload()
    return {p.get_param("name", header="content-disposition"): p.get_payload(decode=True) for p in parts}


def test_pictures_come_in_order_and_everything_is_said(generator, scripted_server):
    scripted_server.say(painted())
    images = generator.generate(REQUESTS)
    assert [(i.shape, i.dtype, tuple(i[0, 0])) for i in images] == [((64, 64, 3), np.uint8, (10, 20, 30))] * 2
    bodies = sorted(scripted_server.bodies, key=lambda body: body["seed"])
    assert bodies[0] == {
        "model": "painter",
        "n": 1,
        "prompt": "a red cone",
        "size": "64x64",
        "quality": "high",
        "response_format": "b64_json",
        "seed": 7,
    }
    assert bodies[1]["prompt"] == "a blue ball"
    assert generator.describe()["server"] == scripted_server.url and generator.unknown_words("zebra") == []


def test_gray_and_transparent_pictures_become_rgb(generator, scripted_server):
    scripted_server.say(painted(128, mode="L"))
    assert generator.generate(REQUESTS[:1])[0].shape == (64, 64, 3)


def test_what_a_server_does_not_take_is_left_out_from_then_on(generator, scripted_server):
    scripted_server.say(refusal("seed"), refusal("response_format"), painted())
    generator.generate(REQUESTS[:1])
    generator.generate(REQUESTS[1:])
    assert len(scripted_server.bodies) == 4
    assert all(not {"seed", "response_format"} & set(body) for body in scripted_server.bodies[2:])
    assert scripted_server.bodies[3]["quality"] == "high"


def test_a_refused_prompt_is_one_line_and_not_tried_again(generator, scripted_server):
    scripted_server.say(send(400, json.dumps({"error": {"message": "blocked by our safety system"}})))
    with pytest.raises(ModelError, match="blocked by our safety system") as caught:
        generator.generate(REQUESTS[:1])
    assert len(scripted_server.bodies) == 1 and not isinstance(caught.value, RemoteError)


@pytest.mark.parametrize(
    "reply",
    [
        html("<html>welcome</html>"),
        send(200, json.dumps({"error": {"message": "busy"}})),
        send(200, json.dumps({"data": []})),
        send(200, json.dumps({"data": [{"url": "http://elsewhere/picture.png"}]})),
        answer("not base64!"),
        answer(base64.b64encode(b"no picture").decode()),
        send(503, "{}"),
    ],
)
def test_useless_answers_are_tried_again_and_then_one_line(generator, scripted_server, reply):
    scripted_server.say(reply)
    with pytest.raises(RemoteError) as caught:
        generator.generate(REQUESTS[:1])
    assert len(scripted_server.bodies) == 2 and "\n" not in str(caught.value)
    scripted_server.say(reply, painted())
    assert len(generator.generate(REQUESTS[:1])) == 1


def test_what_was_paid_for_is_not_asked_for_twice(generator, scripted_server):
    def first_only(handler):
        prompt = scripted_server.bodies[-1]["prompt"]
        (painted() if prompt == "a red cone" else send(400, '{"error": {"message": "no"}}'))(handler)

    scripted_server.say(first_only)
    with pytest.raises(ModelError):
        for request in REQUESTS:  # the first is kept although the call as a whole fails
            generator._all([request] if request is REQUESTS[1] else REQUESTS, generator._generate)
    scripted_server.say(painted())
    before = len(scripted_server.bodies)
    assert len(generator.generate(REQUESTS)) == 2
    assert [body["prompt"] for body in scripted_server.bodies[before:]] == ["a blue ball"]
    generator.generate(REQUESTS[:1])
    assert len(scripted_server.bodies) == before + 2


def test_one_picture_is_bought_once_however_often_it_is_asked_for_at_a_time(generator, scripted_server):
    arrived = threading.Barrier(2, timeout=10)

    def slowly(handler):
        time.sleep(0.2)
        painted()(handler)

    def ask():
        arrived.wait()
        return generator.generate([*REQUESTS, *REQUESTS, REQUESTS[0]])

    scripted_server.say(slowly)
    with ThreadPoolExecutor(2) as pool:
        answers = [call.result() for call in [pool.submit(ask), pool.submit(ask)]]
    assert [len(images) for images in answers] == [5, 5]
    assert sorted(body["seed"] for body in scripted_server.bodies) == [7, 8]
    assert not generator._bought


def test_pictures_of_failed_calls_are_kept_within_limits(generator, scripted_server, monkeypatch):
    monkeypatch.setattr(remote_images, "KEPT", 2)

    def all_but_the_first(handler):
        bad = send(400, '{"error": {"message": "no"}}')
        (bad if scripted_server.bodies[-1]["prompt"] == "bad" else painted())(handler)

    scripted_server.say(all_but_the_first)
    for number in range(3):  # one after the other, as the server looks at its last request
        with pytest.raises(ModelError):
            generator.generate([GenerationRequest("bad", number)])
    generator.generate([GenerationRequest("good", 1)])
    assert not generator._bought
    monkeypatch.setattr(remote_images, "AT_ONCE", 1)
    with pytest.raises(ModelError):
        generator.generate(
            [*(GenerationRequest("good", number) for number in range(5)), GenerationRequest("bad", 1)]
        )
    assert [key[1] for key in generator._bought] == [3, 4]


def test_a_region_goes_out_with_its_mask_and_comes_back_in_its_size(inpainter, scripted_server):
    scripted_server.say(painted((200, 100, 50), (128, 128)))
    (image,) = inpainter.inpaint([EDIT])
    assert image.shape == IMAGE.shape and tuple(image[12, 20]) == (200, 100, 50)
    sent = form(scripted_server.bodies[0], scripted_server.headers[0])
    assert sent["prompt"] == b"a round ball" and sent["size"] == b"64x64" and sent["seed"] == b"5"
    picture = np.asarray(Pillow.open(io.BytesIO(sent["image"])))
    hole = np.asarray(Pillow.open(io.BytesIO(sent["mask"])))
    assert picture.shape == (64, 64, 3) and hole.shape == (64, 64, 4)
    rows, columns = np.nonzero(hole[..., 3] == 0)
    # 48 x 24 becomes 64 x 32, 16 rows below the canvas's top.
    assert 25 <= rows.min() <= 26 and 38 <= rows.max() + 1 <= 39
    assert 15 <= columns.min() <= 16 and 40 <= columns.max() + 1 <= 41


def test_the_crop_lies_on_the_canvas_undistorted_with_its_edge_around_it():
    slope = np.linspace(0, 255, 48, dtype=np.uint8)[None, :, None].repeat(24, 0).repeat(3, 2)
    picture, _, box = on_canvas(slope, MASK, (96, 96))
    canvas = np.asarray(Pillow.open(io.BytesIO(picture)))
    assert box == (0, 24, 96, 72)
    back = np.asarray(Pillow.fromarray(canvas).crop(box).resize((48, 24), Pillow.Resampling.BOX))
    assert np.abs(back.astype(int) - slope).mean() < 2
    assert np.array_equal(canvas[:24], np.repeat(canvas[24:25], 24, axis=0))


def test_an_answer_of_another_shape_is_refused(inpainter, scripted_server):
    scripted_server.say(painted(size=(128, 64)))
    with pytest.raises(ModelError, match="painted 128x64 for 64x64"):
        inpainter.inpaint([EDIT])


def test_what_the_protocol_lacks_is_said(inpainter, scripted_server, caplog):
    scripted_server.say(painted())
    inpainter.inpaint([replace(EDIT, strength=0.5, negative_prompt="blue")])
    assert "takes no strength" in caplog.text and "takes no negative prompt" in caplog.text


def test_half_a_size_is_refused(scripted_server):
    with pytest.raises(InvalidInput, match="both width and height"):
        RemoteGenerator(server(scripted_server), RemoteImageSettings("m", width=64))


def test_the_remote_painter_needs_neither_torch_nor_diffusers():
    code = (
        "import controller.generators.remote_images, sys\n"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"

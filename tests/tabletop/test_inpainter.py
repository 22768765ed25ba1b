"""The inpainter's training: what it is shown, and that it starts as the generator."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.records import InpaintRequest
from controller.generators.diffusers_inpainting import DiffusersInpainter
from tabletop import inpainter
from tabletop.training import WEIGHTS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def parts():
    return inpainter.load_parts(WEIGHTS / "generator")


def test_the_hole_always_hides_clean_pixels(pairs):
    rng = np.random.default_rng(0)
    seen_flawed = 0
    for i in range(len(pairs)):
        for _ in range(20):
            picture, hole, flawed = inpainter._example(pairs, i, rng)
            assert 0 < hole.mean() < 1
            assert (picture[hole] == pairs.clean[i][hole]).all()
            assert (hole.reshape(16, 4, 16, 4).any((1, 3)) == hole.reshape(16, 4, 16, 4).all((1, 3))).all()
            around = (picture != pairs.clean[i]).any()
            assert around or not flawed.any()
            seen_flawed += int(flawed.any())
    assert seen_flawed


def test_a_hole_around_a_flaw_hides_all_of_it(pairs):
    rng = np.random.default_rng(1)
    for i in range(len(pairs)):
        for mask in pairs.mask(i):
            if mask.any():
                assert inpainter.draw_hole(mask, 64, rng)[mask].all()


def test_it_starts_as_the_generator(parts):
    narrow = parts[0]
    wide = inpainter.widened(narrow)
    x, told, t = torch.randn(2, 4, 16, 16), torch.randn(2, 24, 128), torch.tensor([10, 700])
    with torch.no_grad():
        first = narrow(x, t, encoder_hidden_states=told).sample
        second = wide(torch.cat([x, torch.randn(2, 5, 16, 16)], 1), t, encoder_hidden_states=told).sample
    assert torch.allclose(first, second, atol=1e-5)


def test_what_was_trained_paints_behind_the_protocol(pairs, parts, tmp_path):
    schedules = {
        name: replace(schedule, steps=steps, log_every=1)
        for (name, schedule), steps in zip(inpainter.SCHEDULES.items(), (2, 3), strict=True)
    }
    unet, outcome = inpainter.train_inpainter(pairs, parts, tmp_path / "build", schedules)
    assert outcome.finished and outcome.step == 5, "both parts"
    assert unet.conv_in.weight[:, 4:].abs().max() > 0
    inpainter.save(unet, parts, tmp_path / "inpainter")
    painter = DiffusersInpainter.load(tmp_path / "inpainter", steps=2)
    hole = np.zeros((64, 64), bool)
    hole[20:40, 20:40] = True
    filled = painter.inpaint([InpaintRequest(pairs.flawed[0], hole, "a red cone", 3)])[0]
    assert filled.shape == (64, 64, 3)
    figures = inpainter.evaluate(painter, pairs)
    assert figures["PSNR in the hole, flawed (dB)"].mean > 5
    assert 0 <= figures["filled nearer to the truth"].mean <= 1

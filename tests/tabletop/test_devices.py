"""Every training computes its loss where the trained weights are.

No GPU is needed to see that: on PyTorch's `meta` device nothing is computed, but an operation that mixes
devices is refused there as it is on a GPU.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.errors import InvalidInput
from tabletop import autoencoder, clip, generator, geometry, inpainter, judge, preference, trainer
from tabletop.training import WEIGHTS, main

pytestmark = pytest.mark.slow


@pytest.fixture
def on_meta(monkeypatch):
    """Takes one step there in place of every training; the names of those that did."""
    seen = []

    def step(name, folder, model, loss, schedule, extra=()):
        modules = torch.nn.ModuleList([model, *extra]).to("meta")
        value, metrics = loss(0, np.random.default_rng(0))
        assert value.device.type == "meta"
        assert all(isinstance(metric, torch.Tensor) for metric in metrics.values())
        value.backward()
        assert all(p.grad.device.type == "meta" for p in modules.parameters() if p.grad is not None)
        seen.append(name)
        return trainer.Outcome(0, False, 0.0)

    for room in (autoencoder, clip, geometry, judge, preference, trainer):
        monkeypatch.setattr(room, "train", step)
    return seen


def bundled(name):
    return clip.CLIPModel.from_pretrained(WEIGHTS / name, attn_implementation="eager")


def test_losses_are_computed_where_the_weights_are(pairs, on_meta, tmp_path):
    both = (pairs.clean, pairs.flawed)
    tokenizer = clip.build_tokenizer()
    covers = np.zeros((len(pairs), 2, 64, 64), np.float32)
    latents = torch.zeros(len(pairs), 2, 4, 16, 16).half()
    autoencoder.train_autoencoder(pairs, tmp_path)
    clip.train_clip(pairs, both, tmp_path)
    preference.train_scorer(bundled("clip"), tokenizer, pairs, both, tmp_path)
    geometry.train_cutter(pairs.clean, covers, tmp_path)
    generator.train_generator(pairs, latents, bundled("clip"), tokenizer, tmp_path)
    parts = inpainter.load_parts(WEIGHTS / "generator")
    on_the_device = {"inpainter": replace(inpainter.SCHEDULE, device="meta")}
    inpainter.train_inpainter(pairs, parts, tmp_path, on_the_device)
    paintings = (pairs.clean, np.ones(len(pairs), bool))
    judge.train_judge(pairs, both, tmp_path, paintings=paintings)
    assert on_meta == ["autoencoder", "clip", "scorer", "geometry", "generator", "inpainter", "judge"]


@pytest.mark.parametrize("model", ["clip", "all"])
def test_a_device_that_is_not_here_is_refused_before_anything_is_made(tmp_path, model):
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(InvalidInput, match=f"torch finds no {absent} device here"):
        main([model, "--device", absent, "--build", str(tmp_path), "--data", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_a_training_ends_on_the_cpu(tmp_path):
    model = torch.nn.Linear(2, 1)
    schedule = trainer.Schedule(steps=2, learning_rate=0.1, bf16=False, log_every=1)
    trainer.train("toy", tmp_path, model, lambda step, rng: (model(torch.ones(1, 2)).sum(), {}), schedule)
    assert model.weight.device.type == "cpu"
    assert "device" not in replace(schedule, device="cuda").lasting()

"""Whitened latents: what diffusion learns from is what an inpainting pipeline, which samples, encodes to."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from tabletop import autoencoder
from tabletop.flaws import render_pair
from tabletop.tensors import pixels

pytestmark = pytest.mark.slow

WEIGHTS = Path("tabletop/weights")


class Pictures:
    """As much of a PairSet as whitening looks at."""

    def __init__(self, pairs) -> None:
        self.clean, self.flawed = (np.stack([getattr(p, k) for p in pairs]) for k in ("clean", "flawed"))


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return Pictures([render_pair(20_500_000 + i) for i in range(8)])


@pytest.fixture
def untrained() -> autoencoder.AutoencoderKL:
    torch.manual_seed(3)
    return autoencoder.build_model().eval()


def test_whitening_gives_unit_latents_and_the_same_pictures(untrained, pictures):
    before = deepcopy(untrained)
    autoencoder._whiten(untrained, pictures)
    both = np.concatenate([pictures.clean, pictures.flawed])
    latents = autoencoder.encode(untrained, both).permute(1, 0, 2, 3).reshape(4, -1)
    assert torch.allclose(latents.mean(1), torch.zeros(4), atol=1e-3)
    assert torch.allclose(torch.cov(latents), torch.eye(4), atol=1e-3)
    again, at_first = (m.decode(autoencoder.encode(m, pictures.flawed)).sample for m in (untrained, before))
    assert torch.allclose(again, at_first, atol=1e-3)


def test_whitening_does_not_leave_a_sign_to_chance(untrained, pictures, monkeypatch):
    other = deepcopy(untrained)
    autoencoder._whiten(untrained, pictures)
    eigh = torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda m: (eigh(m)[0], -eigh(m)[1]))
    autoencoder._whiten(other, pictures)
    assert all(torch.equal(a, b) for a, b in zip(untrained.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("folder", ["generator", "inpainter"])
def test_a_picture_sampled_from_its_latents_is_their_mean(folder, pictures):
    bundled = autoencoder.AutoencoderKL.from_pretrained(WEIGHTS / folder / "vae").eval()
    with torch.no_grad():
        found = bundled.encode(pixels(pictures.clean)).latent_dist
    assert 0.5 < found.mean.std() < 2
    assert found.std.max() < 0.01

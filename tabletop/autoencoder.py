"""The generator's autoencoder: 64 x 64 pictures to 16 x 16 x 4 latents and back, as a diffusers
AutoencoderKL.

After training the latents are whitened (mean 0, identity covariance over the training pictures) and the
change of basis is folded into `quant_conv` and `post_quant_conv`, so the scaling factor is 1 and diffusion
sees unit noise scale.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional as F

from contracts.intervals import Interval, bootstrap
from tabletop.data import PairSet
from tabletop.tensors import as_pictures, device_of, pixels
from tabletop.trainer import Metrics, Outcome, Schedule, train

SCHEDULE = Schedule(
    steps=4_000, learning_rate=2e-3, seed=21, warmup=100, weight_decay=0.0, ema_decay=0.998, betas=(0.9, 0.95)
)
BATCH = 12
PAIRS = 16_000
_KL_WEIGHT = 2e-5
_LOG_VARIANCE = -20.0
"""Of the latents once they are whitened: a picture is encoded as their mean."""


def build_model() -> AutoencoderKL:
    """No attention, and channel widths that are multiples of 32: those are the fast ones on a CPU."""
    blocks = 3
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(32, 64, 128),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
    with torch.no_grad():  # start almost without sampling noise, or the colors are never learned
        model.quant_conv.bias[4:].fill_(-6.0)
    return model


def train_autoencoder(
    data: PairSet, folder: Path, schedule: Schedule = SCHEDULE
) -> tuple[AutoencoderKL, Outcome]:
    torch.manual_seed(schedule.seed)
    model = build_model()

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Metrics]:
        index = rng.integers(len(data), size=BATCH)
        clean = rng.random(BATCH) < 0.4
        seen = np.where(clean[:, None, None, None], data.clean[index], data.flawed[index])
        x = pixels(seen).to(device_of(model))
        posterior = model.encode(x).latent_dist
        y = model.decode(posterior.sample()).sample.float()
        error = y - x
        chroma = error - error.mean(dim=1, keepdim=True)
        edges = sum(F.l1_loss(y.diff(dim=d), x.diff(dim=d)) for d in (2, 3))
        mean, log_variance = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=(1, 2, 3)).mean()
        square = error.square().mean()
        value = error.abs().mean() + 2 * chroma.abs().mean() + 4 * square + edges + _KL_WEIGHT * kl
        return value, {"psnr": -10 * torch.log10(square.detach() / 4), "kl": kl.detach()}

    outcome = train("autoencoder", folder, model, loss, schedule)
    if outcome.finished:
        _whiten(model, data)
    return model, outcome


@torch.no_grad()
def encode(model: AutoencoderKL, pictures: np.ndarray, batch: int = 250) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> latent means (N, 4, H/4, W/4)."""
    parts = [
        model.encode(pixels(pictures[i : i + batch])).latent_dist.mean for i in range(0, len(pictures), batch)
    ]
    return torch.cat(parts)


@torch.no_grad()
def decode(model: AutoencoderKL, latents: torch.Tensor, batch: int = 250) -> np.ndarray:
    return np.concatenate([as_pictures(model.decode(z).sample) for z in latents.split(batch)])


def reconstruct(model: AutoencoderKL, pictures: np.ndarray) -> np.ndarray:
    """Pictures after one trip through the latents: what the generator could paint at best."""
    with torch.autocast("cpu", torch.bfloat16):
        return np.concatenate(
            [decode(model, encode(model, pictures[i : i + 250])) for i in range(0, len(pictures), 250)]
        )


def evaluate(model: AutoencoderKL, data: PairSet) -> dict[str, Interval]:
    """Mean PSNR in dB over held-out clean and flawed pictures."""
    figures = {}
    for name, pictures in (("clean", data.clean), ("flawed", data.flawed)):
        error = (reconstruct(model, pictures).astype(np.float32) - pictures) ** 2
        figures[f"PSNR {name} (dB)"] = bootstrap(10 * np.log10(255**2 / error.mean(axis=(1, 2, 3))))
    return figures


@torch.no_grad()
def _whiten(model: AutoencoderKL, data: PairSet) -> None:
    model.eval()
    some = np.concatenate([data.clean[:1500], data.flawed[:1500]])
    z = encode(model, some).permute(0, 2, 3, 1).reshape(-1, 4).double()
    mean = z.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((z - mean).T))
    # An eigenvector has no sign of its own: without a rule, latents of two equal trainings may differ in it.
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    forward = (vectors / values.sqrt()).T  # z' = forward (z - mean)
    backward = vectors * values.sqrt()
    quant, post = model.quant_conv, model.post_quant_conv
    weight, bias = quant.weight[:4, :, 0, 0].double(), quant.bias[:4].double()
    quant.weight[:4, :, 0, 0] = (forward @ weight).float()
    quant.bias[:4] = (forward @ (bias - mean)).float()
    # Whitening stretches the directions that hold little, and their sampling noise with them: an inpainting
    # pipeline, which encodes by sampling, would see noise for a picture. Diffusion is trained on the means.
    quant.weight[4:], quant.bias[4:] = 0.0, _LOG_VARIANCE
    weight = post.weight[:, :, 0, 0].double()
    post.bias += (weight @ mean).float()
    post.weight[:, :, 0, 0] = (weight @ backward).float()

"""The inpainter: the generator's UNet taught to fill holes, in the layout of Stable Diffusion's own.

Its UNet reads nine channels: the noisy latents, the mask, and the latents of the picture with the hole in it
(gray). It starts as the generator, the new channels silent, and learns on pictures whose hole hides clean
pixels: a region around an injected flaw, or any other part. Around the hole a picture may be flawed, as it is
while others of its flaws wait for their repair. Only the text encoder's and the autoencoder's weights are the
generator's as they are. Written as a folder that `AutoPipelineForInpainting` loads with default arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import CLIPTextModel, CLIPTokenizer

from contracts.errors import CheckpointError
from contracts.intervals import Interval, bootstrap
from contracts.protocols import Inpainter
from contracts.records import CATEGORIES, InpaintRequest
from tabletop import captions
from tabletop.clip import MAX_TOKENS, add_unknown_words, save_tokenizer
from tabletop.data import PairSet
from tabletop.generator import build_scheduler
from tabletop.tensors import device_of, pixels
from tabletop.trainer import LossFunction, Metrics, Outcome, Schedule, train_in_turn

SCHEDULE = Schedule(
    steps=4_000,
    learning_rate=5e-4,
    seed=35,
    warmup=100,
    weight_decay=0.01,
    ema_decay=0.998,
    betas=(0.9, 0.99),
)
SETTLING = replace(SCHEDULE, steps=6_000, learning_rate=3e-4, seed=38, ema_decay=0.999)
SCHEDULES = {"inpainter": SCHEDULE, "settling": SETTLING}
"""The parts of the training, by the names they log and are listed under, in their order."""
BATCH = 24
CELL = 4
"""Pixels of a picture per side of a latent cell; a hole is made of whole cells, as when painting."""
FLAW_SHARE = 0.6
"""How often the hole is around an injected flaw."""
FLAWED_AROUND = 0.5
"""How often the picture around such a hole keeps its other flaws."""
CAPTION_DROPOUT = 0.1
UNKNOWN_WORD_SHARE = 0.05
AROUND_WEIGHT = 0.25
"""Weight of an error outside the hole, where the answer is there to be read."""
DEFAULTS = {"num_inference_steps": 16, "guidance_scale": 1.5}


def load_parts(
    generator: Path,
) -> tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer]:
    """The generator's parts in fp32. Raises CheckpointError if it is not there."""
    if not (generator / "model_index.json").exists():
        raise CheckpointError(
            f"there is no generator under {generator}; train it first with: legion train generator"
        )
    return (
        UNet2DConditionModel.from_pretrained(generator, subfolder="unet", torch_dtype=torch.float32),
        AutoencoderKL.from_pretrained(generator, subfolder="vae", torch_dtype=torch.float32).eval(),
        CLIPTextModel.from_pretrained(generator, subfolder="text_encoder", dtype="float32").eval(),
        CLIPTokenizer.from_pretrained(generator, subfolder="tokenizer"),
    )


def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """A UNet of nine input channels that ignores the five new ones: as yet it paints as `unet` does."""
    wide = UNet2DConditionModel.from_config({**unet.config, "in_channels": 9})
    weights = unet.state_dict()
    first = torch.zeros_like(wide.conv_in.weight)
    first[:, :4] = weights["conv_in.weight"]
    wide.load_state_dict({**weights, "conv_in.weight": first})
    return wide


def draw_hole(flaw: NDArray[np.bool_] | None, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A hole (size, size) of whole cells: around a flaw's mask with a random margin, or else any ellipse or
    box that is neither tiny nor everything.
    """
    if flaw is not None and flaw.any():
        hole = _dilated(flaw, int(rng.integers(1, 7)))
        if rng.random() < 0.3:
            hole = _box_of(hole)
        return _whole_cells(hole)
    y, x = np.mgrid[0:size, 0:size]
    cy, cx = rng.uniform(0.15, 0.9, 2) * size
    ry, rx = rng.uniform(0.08, 0.4, 2) * size
    v, u = np.abs(y + 0.5 - cy) / ry, np.abs(x + 0.5 - cx) / rx
    inside = np.maximum(u, v) <= 1 if rng.random() < 0.5 else u * u + v * v <= 1
    return _whole_cells(inside)


def train_inpainter(
    data: PairSet,
    parts: tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer],
    folder: Path,
    schedules: Mapping[str, Schedule] = SCHEDULES,
) -> tuple[UNet2DConditionModel, Outcome]:
    """Train on pairs: what fills the hole is always the clean picture's, and the caption says so.

    After the first part it goes on, the same at a lower rate: what was missing was time.
    """
    first = schedules["inpainter"]
    torch.manual_seed(first.seed)
    unet = widened(parts[0])
    unet.set_attn_processor(AttnProcessor())  # the fused attention's backward pass is slow on CPUs
    parts[1].to(first.device)
    loss = _loss(unet, data, parts)
    return unet, train_in_turn(folder, unet, [(name, loss, part) for name, part in schedules.items()])


def _loss(
    unet: UNet2DConditionModel,
    data: PairSet,
    parts: tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer],
) -> LossFunction:
    _, vae, text_model, tokenizer = parts
    alphas = build_scheduler().alphas_cumprod

    @torch.no_grad()
    def encode(caption: str) -> torch.Tensor:
        tokens = tokenizer(
            [caption], padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        )
        return text_model(input_ids=tokens.input_ids).last_hidden_state[0].bfloat16()

    remembered = cache(encode)

    def text(i: int, flawed: NDArray[np.bool_], rng: np.random.Generator) -> torch.Tensor:
        if rng.random() < CAPTION_DROPOUT:
            return remembered("")
        caption = captions.training_caption(data.scenes[i], flawed.tolist(), rng)
        if rng.random() < UNKNOWN_WORD_SHARE:
            return encode(add_unknown_words(caption, rng))
        return remembered(caption)

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Metrics]:
        wanted, holes, told = [], [], []
        for i in rng.integers(len(data), size=BATCH):
            picture, hole, flawed = _example(data, int(i), rng)
            wanted.append(picture)
            holes.append(hole)
            told.append(text(int(i), flawed, rng))
        here = device_of(unet)
        hidden = torch.from_numpy(np.stack(holes))[:, None].float().to(here)
        whole = pixels(np.stack(wanted)).to(here)
        with torch.no_grad():
            latents = vae.encode(torch.cat([whole, whole * (1 - hidden)])).latent_dist.mean.float()
        x, around = latents.chunk(2)
        mask = F.max_pool2d(hidden, CELL)
        middle = 1 / (1 + np.exp(-rng.normal(0.0, 1.0, BATCH)))
        place = np.where(rng.random(BATCH) < 0.3, rng.random(BATCH), middle)
        t = torch.from_numpy((place * 1000).astype(np.int64).clip(0, 999))
        noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        t, noise, a, s = (tensor.to(here) for tensor in (t, noise, a, s))
        seen = torch.cat([a * x + s * noise, mask, around], dim=1)
        v = unet(seen, t, encoder_hidden_states=torch.stack(told).float().to(here)).sample.float()
        error = (v - (a * noise - s * x)).square()
        weight = mask + AROUND_WEIGHT * (1 - mask)
        inside = (error * mask).sum() / (4 * mask.sum())
        return (error * weight).mean(), {"inside": inside.detach()}

    return loss


def _example(
    data: PairSet, i: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """What should be seen (H, W, 3), the hole (H, W), and the categories still flawed around it (3,)."""
    size = data.clean.shape[1]
    nothing = np.zeros(len(CATEGORIES), bool)
    if rng.random() >= FLAW_SHARE:
        return data.clean[i], draw_hole(None, size, rng), nothing
    masks, flawed = data.mask(i), data.flags[i]
    chosen = int(rng.choice(np.flatnonzero(flawed)))
    hole = draw_hole(masks[chosen], size, rng)
    if rng.random() >= FLAWED_AROUND:
        return data.clean[i], hole, nothing
    picture = np.where(hole[:, :, None], data.clean[i], data.flawed[i])
    rest = np.array([(mask & ~hole).any() for mask in masks])
    return picture, hole, rest & flawed


def save(
    unet: UNet2DConditionModel,
    parts: tuple[UNet2DConditionModel, AutoencoderKL, CLIPTextModel, CLIPTokenizer],
    folder: Path,
) -> None:
    """Write the diffusers folder: UNet and autoencoder in fp16, text encoder in fp32 as the generator's."""
    _, vae, text_encoder, tokenizer = parts
    pipeline = StableDiffusionInpaintPipeline(
        vae=vae.half(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    vae.float(), unet.float()
    save_tokenizer(tokenizer, folder / "tokenizer")
    (folder / "legion_defaults.json").write_text(json.dumps(DEFAULTS, indent=2) + "\n")


def evaluate(painter: Inpainter, data: PairSet) -> dict[str, Interval]:
    """PSNR in dB inside a hole around all flaws of each picture, filled by `painter` from a caption that asks
    for everything sound; of the flawed picture; and how often the filled one is nearer to the truth.
    """
    rng = np.random.default_rng(0)
    size = data.clean.shape[1]
    holes = [draw_hole(np.asarray(data.mask(i).any(axis=0)), size, rng) for i in range(len(data))]
    wanted = [captions.with_modifiers(captions.scene_caption(scene), CATEGORIES) for scene in data.scenes]
    requests = [InpaintRequest(data.flawed[i], hole, wanted[i], seed=i) for i, hole in enumerate(holes)]
    filled = np.stack(painter.inpaint(requests))
    ours, before = (_psnr_inside(seen, data.clean, np.stack(holes)) for seen in (filled, data.flawed))
    return {
        "PSNR in the hole, filled (dB)": bootstrap(ours),
        "PSNR in the hole, flawed (dB)": bootstrap(before),
        "filled nearer to the truth": bootstrap(ours > before),
    }


def _psnr_inside(
    seen: NDArray[np.uint8], truth: NDArray[np.uint8], holes: NDArray[np.bool_]
) -> NDArray[np.float64]:
    square = (seen.astype(np.float64) - truth) ** 2
    error = (square * holes[..., None]).sum((1, 2, 3)) / (3 * holes.sum((1, 2)))
    return np.asarray(10 * np.log10(255**2 / np.maximum(error, 1.0)))


def _dilated(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Grown by `reach` pixels to every side."""
    x = torch.from_numpy(mask)[None].float()
    return np.asarray(F.max_pool2d(x, 2 * reach + 1, stride=1, padding=reach)[0] > 0)


def _box_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.zeros_like(mask)
    box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return box


def _whole_cells(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    side = mask.shape[0] // CELL
    cells = mask.reshape(side, CELL, side, CELL).any(axis=(1, 3))
    return np.kron(cells, np.ones((CELL, CELL), bool))

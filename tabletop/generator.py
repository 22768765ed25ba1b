"""The generator: a Stable-Diffusion-layout latent diffusion model of the tabletop world.

The text encoder is the tiny CLIP's text tower, frozen; the autoencoder is tabletop/autoencoder.py's; only
the UNet is trained here, to predict v (arXiv 2202.00512) on a cosine schedule, with captions dropped for
classifier-free guidance. Written as a folder that `AutoPipelineForText2Image` and
`AutoPipelineForInpainting` load with default arguments.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer

from contracts.intervals import Interval, bootstrap
from contracts.records import CATEGORIES, Category, GenerationRequest
from tabletop import autoencoder, captions
from tabletop.clip import MAX_TOKENS, add_unknown_words, save_tokenizer
from tabletop.data import PairSet
from tabletop.tensors import device_of
from tabletop.trainer import LossFunction, Metrics, Outcome, Schedule, train_in_turn

SCHEDULE = Schedule(
    steps=10_000,
    learning_rate=9e-4,
    seed=31,
    warmup=200,
    weight_decay=0.01,
    ema_decay=0.9988,
    betas=(0.9, 0.99),
)
SETTLING = replace(SCHEDULE, steps=16_000, learning_rate=6e-4, seed=36, ema_decay=0.9992)
FINISHING = replace(SETTLING, steps=8_000, learning_rate=4e-4, seed=37)
SCHEDULES = {"generator": SCHEDULE, "settling": SETTLING, "finishing": FINISHING}
"""The parts of the training, by the names they log and are listed under, in their order."""
BATCH = 32
CLEAN_SHARE = 0.45


@dataclass(frozen=True)
class Mix:
    """Which pictures the batches hold once each category is flawed by itself; shares of one."""

    flawed_unless_said: float
    """How often a category is flawed where the caption does not say that it is sound."""
    two_solids: float
    """How many scenes have two solids: the harder ones, of which the data has three in ten."""


SETTLED = Mix(flawed_unless_said=0.27, two_solids=0.5)
FINISHED = Mix(flawed_unless_said=0.36, two_solids=0.6)
"""With the first, plain prompts came out flawed less often than the world wants for something to repair."""
CAPTION_DROPOUT = 0.1
UNKNOWN_WORD_SHARE = 0.05
CARD_SEED = 81_000
"""Of the pictures that its card speaks of; chosen once, and never for choosing anything."""
DEFAULTS = {"num_inference_steps": 16, "guidance_scale": 2.5}


def build_unet() -> UNet2DConditionModel:
    """4.3 M parameters; cross-attention at 8 x 8 only, the pooled text joins the time embedding."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(64, 128),
        layers_per_block=2,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=8,
        resnet_time_scale_shift="scale_shift",
    )


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing="trailing",
    )


def encode_latents(model: AutoencoderKL, data: PairSet, path: Path) -> torch.Tensor:
    """Latent means of every picture, (N, 2, 4, 16, 16) fp16 (clean, flawed), kept on disk."""
    if path.exists():
        return torch.load(path, weights_only=True)
    with torch.autocast("cpu", torch.bfloat16):
        both = [autoencoder.encode(model, p, 100).half() for p in (data.clean, data.flawed)]
    latents = torch.stack(both, dim=1)
    torch.save(latents, path)
    return latents


Draw = Callable[[np.random.Generator], tuple[NDArray[np.int64], NDArray[np.bool_]]]
"""Which pairs make up a batch, (BATCH,), and whether the clean picture of each is taken, (BATCH,)."""


def train_generator(
    data: PairSet,
    latents: torch.Tensor,
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    folder: Path,
    schedules: Mapping[str, Schedule] = SCHEDULES,
) -> tuple[UNet2DConditionModel, Outcome]:
    """Train the UNet on latents of clean and flawed pictures with captions drawn anew each time.

    First on many flawed pictures, so that it learns every kind; then, `settling` and `finishing`, on flaws as
    often as they should be and each category by itself, so that a modifier says nothing about the others.
    """
    torch.manual_seed(schedules["generator"].seed)
    unet = build_unet()
    unet.set_attn_processor(AttnProcessor())  # the fused attention's backward pass is slow on CPUs
    text = _captions(data, clip, tokenizer)
    two_solids = np.array([len(scene.solids) > 1 for scene in data.scenes])
    draws = {
        "generator": _many_flaws(len(data)),
        "settling": independent_flaws(data.flags, two_solids, SETTLED),
        "finishing": independent_flaws(data.flags, two_solids, FINISHED),
    }
    parts = [(name, _loss(unet, latents, text, draws[name]), part) for name, part in schedules.items()]
    return unet, train_in_turn(folder, unet, parts)


def _many_flaws(count: int) -> Draw:
    def draw(rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        return rng.integers(count, size=BATCH), rng.random(BATCH) < CLEAN_SHARE

    return draw


def independent_flaws(flags: NDArray[np.bool_], two_solids: NDArray[np.bool_], mix: Mix) -> Draw:
    """Draws of pairs with `flags` (N, categories) and one or two solids (N,), in the shares of `mix`, with
    the categories flawed independently. A flawed picture has at least one flaw.
    """
    odds = mix.flawed_unless_said / (1 - mix.flawed_unless_said) * (1 - captions.MODIFIER_SHARE)
    kinds, kind_of = np.unique(flags, axis=0, return_inverse=True)
    of_kind = [kind_of.reshape(-1) == k for k in range(len(kinds))] + [np.ones(len(flags), bool)]
    members = [(np.flatnonzero(kind & ~two_solids), np.flatnonzero(kind & two_solids)) for kind in of_kind]
    weights = np.append(odds ** kinds.sum(axis=1), 1.0)  # the last one is clean
    shares = weights / weights.sum()

    def draw(rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        chosen = rng.choice(len(shares), size=BATCH, p=shares)
        two = rng.random(BATCH) < mix.two_solids
        pairs = [rng.choice(members[k][int(t)]) for k, t in zip(chosen, two, strict=True)]
        return np.array(pairs, np.int64), chosen == len(kinds)

    return draw


def _captions(data: PairSet, clip: CLIPModel, tokenizer: CLIPTokenizer) -> Callable[..., torch.Tensor]:
    """(pair, is it the clean picture, generator) -> hidden states of a caption drawn for it."""
    text_model = clip.text_model.eval()
    flags, scenes = data.flags, data.scenes

    @torch.no_grad()
    def encode(caption: str) -> torch.Tensor:
        tokens = tokenizer(
            [caption], padding="max_length", max_length=MAX_TOKENS, truncation=True, return_tensors="pt"
        )
        return text_model(input_ids=tokens.input_ids).last_hidden_state[0].bfloat16()

    remembered = cache(encode)

    def text(i: int, clean: bool, rng: np.random.Generator) -> torch.Tensor:
        if rng.random() < CAPTION_DROPOUT:
            return remembered("")
        caption = captions.training_caption(scenes[i], flags[i] & (not clean), rng)
        if rng.random() < UNKNOWN_WORD_SHARE:
            return encode(add_unknown_words(caption, rng))
        return remembered(caption)

    return text


def _loss(
    unet: UNet2DConditionModel, latents: torch.Tensor, text: Callable[..., torch.Tensor], draw: Draw
) -> LossFunction:
    alphas = build_scheduler().alphas_cumprod

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Metrics]:
        index, clean = draw(rng)
        x = latents[torch.from_numpy(index), torch.from_numpy(1 - clean.astype(np.int64))].float()
        hidden = torch.stack([text(int(i), bool(c), rng) for i, c in zip(index, clean, strict=True)]).float()
        # Mostly the middle of the schedule, where the composition is decided; a fifth is uniform.
        middle = 1 / (1 + np.exp(-rng.normal(0.0, 1.0, BATCH)))
        place = np.where(rng.random(BATCH) < 0.2, rng.random(BATCH), middle)
        t = torch.from_numpy((place * 1000).astype(np.int64).clip(0, 999))
        noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
        a, s = alphas[t].sqrt().view(-1, 1, 1, 1), (1 - alphas[t]).sqrt().view(-1, 1, 1, 1)
        here = device_of(unet)
        x, hidden, t, noise, a, s = (tensor.to(here) for tensor in (x, hidden, t, noise, a, s))
        v = unet(a * x + s * noise, t, encoder_hidden_states=hidden).sample.float()
        return F.mse_loss(v, a * noise - s * x), {}

    return loss


def evaluate(folder: Path, check_folder: Path, count: int = 128) -> dict[str, Interval]:
    """How often the solids of painted pictures resemble clean renders of the shapes that were asked for, by
    the geometry check: one solid and two, with plain prompts and with all modifiers."""
    from controller.generators.diffusers_pipeline import DiffusersGenerator
    from tabletop.geometry import GeometryCheck

    painter = DiffusersGenerator.load(folder, batch_size=BATCH, exact=False)
    check = GeometryCheck.load(check_folder)
    figures = {}
    for solids, name in ((1, "one solid"), (2, "two solids")):
        scenes = captions.drawn_scenes(count, CARD_SEED, solids)
        shapes = [scene.shapes for scene in scenes]
        said: dict[str, Sequence[Category]] = {"plain": (), "all modifiers": CATEGORIES}
        for words, categories in said.items():
            asked = [captions.with_modifiers(captions.scene_caption(s), categories) for s in scenes]
            requests = [GenerationRequest(prompt, CARD_SEED + i) for i, prompt in enumerate(asked)]
            sound = check.all_sound(np.stack(painter.generate(requests)), shapes)
            figures[f"resembles a clean render ({name}, {words})"] = bootstrap(sound)
    return figures


def save(
    unet: UNet2DConditionModel, vae: AutoencoderKL, clip: CLIPModel, tokenizer: CLIPTokenizer, folder: Path
) -> None:
    """Write the diffusers folder: UNet and autoencoder in fp16, text encoder in fp32.

    transformers would keep an fp16 text encoder in fp16 while diffusers loads the others as fp32.
    """
    text_encoder = CLIPTextModel(clip.text_model.config)
    text_encoder.load_state_dict(_text_state(clip, text_encoder))
    pipeline = StableDiffusionPipeline(
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


def _text_state(clip: CLIPModel, text_encoder: CLIPTextModel) -> dict[str, torch.Tensor]:
    """The text tower's tensors under the names that a lone CLIPTextModel uses."""
    wanted = text_encoder.state_dict().keys()
    tower = {
        **{f"text_model.{k}": v for k, v in clip.text_model.state_dict().items()},
        **clip.text_model.state_dict(),
    }
    return {name: tower[name] for name in wanted}

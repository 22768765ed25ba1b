"""The preference scorers: a tiny CLIP fine-tuned to prefer what a person would.

Pairs as in HPSv2 (arXiv 2306.09341): two pictures for one caption, one preferred; the Bradley-Terry loss on
the difference of their cosine scores. Clean is preferred over flawed for the same scene, one flaw over two,
and for a picture its own caption over one that names another thing. Half of what it sees went through the
generator's autoencoder, because that is how pictures will reach it.

There are two, as a benchmark needs: one that selects, and one that reports what selecting was worth. The
second begins from a CLIP of its own, trained from nothing on pictures that only the judge has seen.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import CLIPModel, CLIPTokenizer

from contracts.intervals import Interval, bootstrap
from tabletop import captions, clip, judge
from tabletop.clip import (
    encode_texts,
    image_features,
    pixels,
    text_features,
)
from tabletop.data import PairSet
from tabletop.scenes import Scene
from tabletop.tensors import device_of
from tabletop.trainer import Metrics, Outcome, Schedule, train

SCHEDULE = Schedule(steps=400, learning_rate=4e-4, seed=41, warmup=40, weight_decay=0.05, ema_decay=0.99)
BATCH = 48
PAIRS = 16_000
REPORTER_CLIP = replace(clip.SCHEDULE, seed=12)
REPORTER = replace(SCHEDULE, seed=42)
REPORTER_PAIRS = judge.PAIRS
"""What was rendered and decoded for the judge serves again."""
SCALE = 30.0
"""Cosine differences times this are log-odds of preference."""


def train_scorer(
    model: CLIPModel,
    tokenizer: CLIPTokenizer,
    data: PairSet,
    reconstructed: tuple[np.ndarray, np.ndarray],
    folder: Path,
    schedule: Schedule = SCHEDULE,
) -> tuple[CLIPModel, Outcome]:
    """Fine-tune a tiny CLIP in place; `reconstructed` holds (clean, flawed) after the autoencoder."""
    model.logit_scale.requires_grad_(False)
    scenes = data.scenes

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Metrics]:
        index = rng.integers(len(data), size=BATCH)
        through = (rng.random(BATCH) < 0.5)[:, None, None, None]
        clean = np.where(through, reconstructed[0][index], data.clean[index])
        flawed = np.where(through, reconstructed[1][index], data.flawed[index])
        right = [caption(scenes[i], rng) for i in index]
        wrong = [captions.mismatch(scenes[i], t, rng) for i, t in zip(index, right, strict=True)]
        here = device_of(model)
        image = image_features(model, pixels(np.concatenate([clean, flawed])).to(here))
        text = text_features(model, encode_texts(tokenizer, right + wrong, here))
        good, bad = image[:BATCH], image[BATCH:]
        own, other = text[:BATCH], text[BATCH:]
        quality = SCALE * ((good - bad) * own).sum(-1)
        match = SCALE * (good * (own - other)).sum(-1)
        match_flawed = SCALE * (bad * (own - other)).sum(-1)
        value = -(
            F.logsigmoid(quality).mean()
            + F.logsigmoid(match).mean()
            + 0.5 * F.logsigmoid(match_flawed).mean()
        )
        return value, {
            "clean over flawed": (quality > 0).float().mean(),
            "match over mismatch": (match > 0).float().mean(),
        }

    outcome = train("scorer", folder, model, loss, schedule)
    return model, outcome


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """What a user would type: mostly plain, sometimes with modifiers."""
    plain = captions.scene_caption(scene, name_material=bool(rng.random() < 0.7))
    if rng.random() < 0.7:
        return plain
    chosen = [c for c in captions.MODIFIERS if rng.random() < 0.5]
    return captions.with_modifiers(plain, chosen)


@torch.no_grad()
def evaluate(
    model: CLIPModel, tokenizer: CLIPTokenizer, data: PairSet, pictures: tuple[np.ndarray, np.ndarray]
) -> dict[str, Interval]:
    """Share of held-out pairs ranked as a person would rank them, for user-like captions."""
    rng = np.random.default_rng(4242)
    right = [caption(s, rng) for s in data.scenes]
    wrong = [captions.mismatch(s, t, rng) for s, t in zip(data.scenes, right, strict=True)]
    quality, match = [], []
    for i in range(0, len(data), 250):
        own = text_features(model, encode_texts(tokenizer, right[i : i + 250]))
        other = text_features(model, encode_texts(tokenizer, wrong[i : i + 250]))
        good, bad = (image_features(model, pixels(p[i : i + 250])) for p in pictures)
        quality.append(((good - bad) * own).sum(-1) > 0)
        match.append((good * (own - other)).sum(-1) > 0)
    return {
        "clean over flawed": bootstrap(torch.cat(quality).numpy()),
        "match over mismatch": bootstrap(torch.cat(match).numpy()),
    }

"""The independent judge: what is in a tabletop picture, and which categories of flaw it has.

For reporting only, never inside a loop. It shares nothing with the defender or the scorers: a plain
convolutional network (they are transformers), another seed, other scenes (the "judge" seeds).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from contracts.errors import CheckpointError
from contracts.intervals import Interval, auc, bootstrap, resample
from contracts.records import CATEGORIES
from tabletop.data import PairSet
from tabletop.scenes import ATTRIBUTE_SIZES, SHAPES, attributes
from tabletop.tensors import device_of, pixels
from tabletop.trainer import Metrics, Outcome, Schedule, train

SCHEDULE = Schedule(steps=12_000, learning_rate=2e-3, seed=51, warmup=100, weight_decay=0.02, ema_decay=0.998)
BATCH = 48
PAIRS = 24_000
PAINTED_SHARE = 0.25
"""Share of a batch that are paintings, where there are any."""
SHIFT = 3
"""Pixels by which a picture is moved at most, to every side."""
STRUCTURE = CATEGORIES.index("structure")
_SIZES = (*ATTRIBUTE_SIZES, len(CATEGORIES))


@dataclass(frozen=True, eq=False)
class Opinion:
    """What the judge thinks of N pictures."""

    shape: NDArray[np.int64]
    """(N,) index into SHAPES; of the solid on the left, if there are two."""
    color: NDArray[np.int64]
    surface: NDArray[np.int64]
    second_shape: NDArray[np.int64]
    """(N,) index into SHAPES of the solid on the right; len(SHAPES) where there is none."""
    second_color: NDArray[np.int64]
    flaws: NDArray[np.float32]
    """(N, 3) probability of a flaw by category."""

    @property
    def flawed(self) -> NDArray[np.bool_]:
        """(N,) whether any category is more likely flawed than not."""
        return np.asarray((self.flaws > 0.5).any(axis=1))


class JudgeNetwork(nn.Module):
    """Residual convolutions at 32, 16 and 8 pixels; mean and maximum of the left and of the right half,
    because a flaw may be small and there may be two solids.
    """

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        w = width
        self.stem = nn.Conv2d(3, w, 3, stride=2, padding=1)
        self.stages = nn.Sequential(
            _Block(w, w),
            _Block(w, 2 * w, 2),
            _Block(2 * w, 2 * w),
            _Block(2 * w, 3 * w, 2),
            _Block(3 * w, 3 * w),
        )
        self.heads = nn.ModuleList([nn.Linear(12 * w, n) for n in _SIZES])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """(N, 3, 64, 64) in -1..1 -> logits of each of ATTRIBUTE_SIZES (classes) and of the flaws
        (independent)."""
        h = self.stages(self.stem(x))
        halves = h.chunk(2, dim=3)
        pooled = torch.cat([f(half, dim=(2, 3)) for half in halves for f in (torch.mean, torch.amax)], dim=1)
        return [head(pooled).float() for head in self.heads]


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(8, inside), nn.GroupNorm(8, outside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.skip = (
            nn.Conv2d(inside, outside, 1, stride=stride)
            if (inside, stride) != (outside, 1)
            else nn.Identity()
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.relu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.relu(self.norm2(h)))


def train_judge(
    data: PairSet,
    reconstructed: tuple[np.ndarray, np.ndarray],
    folder: Path,
    schedule: Schedule = SCHEDULE,
    paintings: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[JudgeNetwork, Outcome]:
    """Train on the judge's own pairs, as rendered and after the generator's autoencoder; and on paintings
    (N, 64, 64, 3) of which the geometry check says whether they are misshapen (N,), which teach that alone.
    """
    torch.manual_seed(schedule.seed)
    model = JudgeNetwork()
    labels = np.array([attributes(s) for s in data.scenes])
    painted = round(BATCH * PAINTED_SHARE) if paintings is not None else 0
    kinds = (-1,) * len(ATTRIBUTE_SIZES)

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Metrics]:
        index = rng.integers(len(data), size=BATCH)
        clean = rng.random(BATCH) < 0.45
        through = rng.random(BATCH) < 0.6
        rendered = np.where(clean[:, None, None, None], data.clean[index], data.flawed[index])
        decoded = np.where(clean[:, None, None, None], reconstructed[0][index], reconstructed[1][index])
        images = np.where(through[:, None, None, None], decoded, rendered)
        flags = data.flags[index] & ~clean[:, None]
        known, target = np.ones(flags.shape, bool), labels[index]
        if paintings is not None:  # the first rows of the batch
            which = rng.integers(len(paintings[0]), size=painted)
            images[:painted], flags[:painted, STRUCTURE] = paintings[0][which], paintings[1][which]
            known[:painted], target[:painted] = np.arange(len(CATEGORIES)) == STRUCTURE, kinds
        mirrored = rng.random(BATCH) < 0.5
        images, target = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images), target.copy()
        target[mirrored] = mirror_labels(target[mirrored])
        here = device_of(model)
        logits = model(_augmented(images, rng).to(here))
        truth, weight = (torch.from_numpy(of).float().to(here) for of in (flags, known))
        labeled = torch.from_numpy(target).to(here)
        value = 2 * F.binary_cross_entropy_with_logits(logits[-1], truth, weight)
        for k in range(len(ATTRIBUTE_SIZES)):
            value = value + F.cross_entropy(logits[k], labeled[:, k], label_smoothing=0.02, ignore_index=-1)
        return value, {
            "shape": (logits[0].argmax(1) == labeled[:, 0])[painted:].float().mean(),
            "flaws": ((logits[-1] > 0) == (truth > 0.5)).float().mean(),
        }

    outcome = train("judge", folder, model, loss, schedule)
    return model, outcome


def mirror_labels(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Attributes (N, 5) of pictures seen in a mirror: of two solids, left and right change places."""
    two = labels[:, 3] < len(SHAPES)
    return np.where(two[:, None], labels[:, [3, 4, 2, 0, 1]], labels)


def _augmented(images: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    """Moved a little, of slightly other brightness, with a little noise: generated pictures are never quite
    renders, and what a flaw is does not depend on where it is."""
    x = pixels(_moved(images, rng))
    n = len(images)
    gain = torch.from_numpy(rng.uniform(0.93, 1.07, (n, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(x.shape, np.float32))
    return x * gain + noise * torch.from_numpy(rng.uniform(0, 0.03, (n, 1, 1, 1)).astype(np.float32))


def _moved(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each by its own number of whole pixels; what comes in is the edge again."""
    size = images.shape[1]
    wide = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    corners = rng.integers(2 * SHIFT + 1, size=(len(images), 2))
    return np.stack([w[y : y + size, x : x + size] for w, (y, x) in zip(wide, corners, strict=True)])


def save(model: JudgeNetwork, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"width": model.stem.out_channels}) + "\n")


def load(folder: Path) -> JudgeNetwork:
    """The judge of a folder written by `save`. Raises CheckpointError."""
    try:
        model = JudgeNetwork(**json.loads((folder / "config.json").read_text()))
        model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"no judge can be loaded from {folder}: {error}; train it with: legion train judge"
        ) from error
    return model.eval()


@torch.no_grad()
def judge(model: JudgeNetwork, images: np.ndarray, batch: int = 250) -> Opinion:
    """Opinion on uint8 pictures (N, 64, 64, 3)."""
    outputs: list[list[torch.Tensor]] = []
    for i in range(0, len(images), batch):
        outputs.append(model(pixels(images[i : i + batch])))
    *classes, flaws = (torch.cat([o[k] for o in outputs]) for k in range(len(_SIZES)))
    shape, color, surface, second_shape, second_color = (logits.argmax(1).numpy() for logits in classes)
    return Opinion(shape, color, surface, second_shape, second_color, flaws.sigmoid().numpy())


def evaluate(
    model: JudgeNetwork, data: PairSet, pictures: tuple[np.ndarray, np.ndarray]
) -> dict[str, Interval]:
    """Held-out accuracy of every head over (clean, flawed) pictures, and AUC per flaw category; the units of
    the intervals are scenes.
    """
    opinions = [judge(model, p) for p in pictures]
    labels = np.array([attributes(s) for s in data.scenes])
    truth = np.concatenate([np.zeros_like(data.flags), data.flags])
    flaws = np.concatenate([o.flaws for o in opinions])
    scenes = np.tile(np.arange(len(data)), 2)
    figures = {}
    for k, name in enumerate(("shape", "color", "surface", "second_shape", "second_color")):
        right = np.mean([getattr(o, name) == labels[:, k] for o in opinions], axis=0)
        figures[f"accuracy {name.replace('_', ' ')}"] = bootstrap(right)
    for k, category in enumerate(CATEGORIES):
        right = ((flaws[:, k] > 0.5) == truth[:, k]).reshape(2, -1).mean(axis=0)
        figures[f"accuracy {category}"] = bootstrap(right)
        figures[f"AUC {category}"] = resample(auc(flaws[:, k], truth[:, k], scenes), len(data))
    figures["false alarms on clean"] = bootstrap(opinions[0].flawed)
    figures["flawed found"] = bootstrap(opinions[1].flawed)
    return figures

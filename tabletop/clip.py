"""The tiny CLIP: image and text towers trained on the tabletop world, in the format of the large ones.

Its text tower is the generator's frozen text encoder, its vision tower the defender's global encoder, and
fine-tuned on preferences (tabletop/preference.py) it is the scorer, as CLIP is in the full-size world.
Trained with the contrastive loss of CLIP (arXiv 2103.00020), with four changes that a small closed world
asks for: captions that fit several pictures of a batch count as right for all of them; every caption comes
with a near miss (a wrong modifier, color, shape or surface); linear heads that are thrown away afterwards
read the attributes off both towers; and one of them tells renders from pictures that went through the
generator's autoencoder, patch by patch, so that the vision tower sees what detection needs.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from tokenizers import pre_tokenizers
from torch import nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from contracts.intervals import Interval, auc, bootstrap, resample
from contracts.records import CATEGORIES
from tabletop import captions
from tabletop.data import PairSet
from tabletop.scenes import ATTRIBUTE_SIZES, COLORS, SHAPES, SURFACES, Scene, attributes
from tabletop.tensors import device_of
from tabletop.trainer import Metrics, Outcome, Schedule, train

MAX_TOKENS = 40
IMAGE_SIZE = 64
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
SCHEDULE = Schedule(
    steps=2_200, learning_rate=1.5e-3, seed=11, warmup=150, weight_decay=0.05, ema_decay=0.997
)
BATCH = 64
PAIRS = 16_000
SHARP_FILTERS = 40
SHARP_GAIN = 5.0
REAL_WEIGHT = 2.0


def build_tokenizer() -> CLIPTokenizer:
    """A byte-pair tokenizer in CLIP's format in which every word of the grammar is one token.

    Any other word still has a spelling in byte pieces.
    """
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    merges = byte_pair_merges(captions.vocabulary())
    pieces = [*sorted(alphabet), *(f"{c}</w>" for c in sorted(alphabet)), *("".join(m) for m in merges)]
    vocab: dict[str, int] = {}
    for piece in [*pieces, "<|startoftext|>", "<|endoftext|>"]:
        vocab.setdefault(piece, len(vocab))
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)  # type: ignore[arg-type]


def byte_pair_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that make each word one piece, the most frequent pair first.

    The trainer of `tokenizers` breaks ties differently from run to run, and so would weights differ.
    """
    spelled = [[*word[:-1], f"{word[-1]}</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for pieces in spelled for pair in pairwise(pieces)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_merged(pieces, best) for pieces in spelled]
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for piece in pieces:
        if result and (result[-1], piece) == pair:
            result[-1] += piece
        else:
            result.append(piece)
    return result


def save_tokenizer(tokenizer: CLIPTokenizer, folder: Path) -> None:
    """What transformers writes; `vocab.json` and `merges.txt`, which its older versions read instead; and the
    words that the models were taught.
    """
    # Else the file would hold how the last call happened to cut and pad.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    (folder / "known_words.txt").write_text("\n".join(captions.vocabulary()) + "\n")


def build_model(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Untrained towers of width 128: 0.9 M parameters in the vision tower, 0.7 M in the text tower."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        hidden_act="gelu",
        projection_dim=96,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        image_size=IMAGE_SIZE,
        patch_size=8,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        hidden_act="gelu",
        projection_dim=96,
    )
    model = CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=96)
    )
    # Plain matrix products train twice as fast on a CPU as the fused attention, whose backward pass is slow
    # there.
    model.set_attn_implementation("eager")
    return model


def sharpen(model: CLIPModel) -> None:
    """Let SHARP_FILTERS of the patch filters start as high frequencies of the cosine basis (luminance).

    What tells a decoder's picture from a render is there. A tower that starts from random filters does not
    find it in thousands of steps; from these it takes two hundred (docs/decisions.md).
    """
    weight = model.vision_model.embeddings.patch_embedding.weight
    size = weight.shape[-1]
    place = torch.arange(size)
    basis = torch.cos(torch.pi * (place[None] + 0.5) * place[:, None] / size)
    waves = [torch.outer(basis[a], basis[b]) for a in range(size) for b in range(size) if a + b >= 5]
    with torch.no_grad():
        for channel, wave in enumerate(waves[:SHARP_FILTERS]):
            weight[3 * channel] = SHARP_GAIN * wave / wave.norm()


def pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> normalised float (N, 3, H, W), as CLIP expects it."""
    x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def encode_texts(
    tokenizer: CLIPTokenizer, texts: list[str], device: torch.device | None = None
) -> dict[str, torch.Tensor]:
    """Tokens and attention mask, (N, longest), on `device` (or else the CPU)."""
    tokens = tokenizer(texts, padding="longest", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
    return dict(tokens.to(device or "cpu"))


def image_features(model: CLIPModel, x: torch.Tensor) -> torch.Tensor:
    """(N, 96), length 1."""
    pooled = model.vision_model(pixel_values=x).pooler_output
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def text_features(model: CLIPModel, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
    """(N, 96), length 1."""
    pooled = model.text_model(**tokens).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


class PictureBatch:
    """Random clean and flawed pictures of a data set with what is true of each."""

    def __init__(
        self,
        data: PairSet,
        rng: np.random.Generator,
        size: int,
        clean_share: float = 0.4,
        decoded: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.index = rng.integers(len(data), size=size)
        clean = rng.random(size) < clean_share
        self.real = rng.random(size) < 0.5 if decoded is not None else np.ones(size, bool)
        sources = ((data.clean, data.flawed), decoded or (data.clean, data.flawed))
        self.images = np.stack(
            [sources[int(not r)][int(not c)][i] for i, c, r in zip(self.index, clean, self.real, strict=True)]
        )
        """(B, H, W, 3); where `real` is false, as they come out of the autoencoder."""
        self.flags = data.flags[self.index] & ~clean[:, None]
        self.scenes = [data.scenes[i] for i in self.index]


def add_unknown_words(caption: str, rng: np.random.Generator) -> str:
    """Put one to three made-up words somewhere, so that the model learns to ignore what it does not know."""
    words = caption.split(" ")
    for _ in range(int(rng.integers(1, 4))):
        made_up = "".join(chr(97 + int(c)) for c in rng.integers(26, size=int(rng.integers(3, 10))))
        words.insert(int(rng.integers(len(words) + 1)), made_up)
    return " ".join(words)


def _near_miss(scene: Scene, flags: np.ndarray, caption: str, rng: np.random.Generator) -> str:
    """The caption with one thing about it made wrong."""
    absent = [c for c, flawed in zip(CATEGORIES, flags, strict=True) if flawed]
    if absent and rng.random() < 0.6:
        return captions.with_modifiers(caption, [absent[int(rng.integers(len(absent)))]])
    return captions.mismatch(scene, caption, rng)


def _fits(batch: PictureBatch, attribute: np.ndarray, texts: list[str]) -> torch.Tensor:
    """(B, B) whether caption j is also true of picture i: same things, and no modifier that i contradicts."""
    same = (attribute[:, None] == attribute[None]).all(-1)
    claims = np.array([[captions.MODIFIERS[c] in t for c in CATEGORIES] for t in texts])
    contradicted = (batch.flags[:, None] & claims[None]).any(-1)
    # What is called shiny must be; what is not called so may be.
    shiny = np.array([[s.shiny for s in (*scene.solids, scene.solids[0])[:2]] for scene in batch.scenes])
    said = np.array([_says_shiny(scene, t) for scene, t in zip(batch.scenes, texts, strict=True)])
    return torch.from_numpy(same & ~contradicted & (shiny[:, None] | ~said[None]).all(-1))


def _says_shiny(scene: Scene, text: str) -> tuple[bool, bool]:
    """Whether a caption of the scene calls its first and its second solid shiny."""
    first, *second = [f"shiny {s.color} {s.shape}" in text for s in scene.solids]
    return first, second[0] if second else False


def train_clip(
    data: PairSet,
    decoded: tuple[np.ndarray, np.ndarray],
    folder: Path,
    schedule: Schedule = SCHEDULE,
) -> tuple[CLIPModel, CLIPTokenizer, Outcome]:
    """Train both towers; `decoded` are the clean and flawed pictures after the autoencoder, `folder` keeps
    the checkpoint.
    """
    torch.manual_seed(schedule.seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer)
    sharpen(model)
    real_head = nn.Linear(128, 2)
    image_heads = nn.ModuleList([nn.Linear(128, n) for n in (*ATTRIBUTE_SIZES, 3)])
    text_heads = nn.ModuleList([nn.Linear(128, n) for n in (*ATTRIBUTE_SIZES, 3)])

    def loss(step: int, rng: np.random.Generator) -> tuple[torch.Tensor, Metrics]:
        here = device_of(model)
        batch = PictureBatch(data, rng, BATCH, decoded=decoded)
        attribute = np.array([attributes(s) for s in batch.scenes])
        true = [captions.training_caption(s, f, rng) for s, f in zip(batch.scenes, batch.flags, strict=True)]
        wrong = [_near_miss(s, f, t, rng) for s, f, t in zip(batch.scenes, batch.flags, true, strict=True)]
        spoken = [add_unknown_words(t, rng) if rng.random() < 0.15 else t for t in true]
        tokens = encode_texts(tokenizer, spoken + wrong, here)
        text_out = model.text_model(**tokens).pooler_output
        shown = pixels(batch.images).to(here)
        seen = model.vision_model(pixel_values=shown, output_hidden_states=True)
        image_out = seen.pooler_output
        text = F.normalize(model.text_projection(text_out).float(), dim=-1)
        image = F.normalize(model.visual_projection(image_out).float(), dim=-1)
        logits = image @ text.T * model.logit_scale.exp().clamp(max=50)
        right = _fits(batch, attribute, true).float().to(here)
        near = torch.cat([right, torch.zeros_like(right)], dim=1)
        to_text = -(F.log_softmax(logits, dim=1) * near / near.sum(1, keepdim=True)).sum(1).mean()
        to_image = (
            -(F.log_softmax(logits[:, :BATCH], dim=0) * right / right.sum(0, keepdim=True)).sum(0).mean()
        )
        margin = F.softplus(-(logits[:, :BATCH].diagonal() - logits[:, BATCH:].diagonal())).mean()
        heads = torch.zeros((), device=here)
        flags = torch.from_numpy(batch.flags.astype(np.float32)).to(here)
        said = torch.tensor([[captions.MODIFIERS[c] in t for c in CATEGORIES] for t in true]).float().to(here)
        for k in range(len(ATTRIBUTE_SIZES)):
            target = torch.from_numpy(attribute[:, k]).to(here)
            heads = heads + F.cross_entropy(image_heads[k](image_out).float(), target)
            heads = heads + 0.5 * F.cross_entropy(text_heads[k](text_out[:BATCH]).float(), target)
        flaw_logits = image_heads[-1](image_out).float()
        heads = heads + 3 * F.binary_cross_entropy_with_logits(flaw_logits, flags)
        heads = heads + F.binary_cross_entropy_with_logits(text_heads[-1](text_out[:BATCH]).float(), said)
        # The layer that LEGION reads, every patch and CLS.
        guesses = real_head(seen.hidden_states[-2]).float()
        truth = torch.from_numpy(batch.real.astype(np.int64)).to(here)
        real = F.cross_entropy(guesses.flatten(0, 1), truth.repeat_interleave(guesses.shape[1]))
        real = 0.5 * real + 0.5 * F.cross_entropy(guesses[:, 0], truth)
        metrics = {
            "real_accuracy": (guesses[:, 0].argmax(1) == truth).float().mean(),
            "contrast": (to_text + to_image).detach() / 2,
            "margin": margin.detach(),
            "heads": heads.detach(),
            "flaw_accuracy": ((flaw_logits > 0) == (flags > 0.5)).float().mean(),
        }
        return 0.5 * (to_text + to_image) + margin + heads + REAL_WEIGHT * real, metrics

    outcome = train("clip", folder, model, loss, schedule, extra=[image_heads, text_heads, real_head])
    return model, tokenizer, outcome


def save(model: CLIPModel, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write a folder that `CLIPModel.from_pretrained` and the clip scorer read (weights in fp16)."""
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.save_pretrained(folder, state_dict=half)
    save_tokenizer(tokenizer, folder)
    preprocessing = {
        "size": {"longest_edge": IMAGE_SIZE},
        "do_pad": True,
        "pad_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "resample": 3,
        "antialias": True,
        "rescale_factor": 1 / 255,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=2) + "\n")


@torch.no_grad()
def evaluate(model: CLIPModel, tokenizer: CLIPTokenizer, data: PairSet) -> dict[str, Interval]:
    """Zero-shot accuracy on clean pictures, and how well each modifier tells sound pictures from flawed ones
    (AUC); the units of the intervals are scenes.
    """
    model.eval()
    clean = torch.cat(
        [image_features(model, pixels(data.clean[i : i + 250])) for i in range(0, len(data), 250)]
    )
    flawed = torch.cat(
        [image_features(model, pixels(data.flawed[i : i + 250])) for i in range(0, len(data), 250)]
    )
    scenes = data.scenes
    result = {}
    kinds = (("shape", SHAPES), ("color", COLORS), ("surface", SURFACES))
    for k, (name, options) in enumerate(kinds):
        right = []
        for i, scene in enumerate(scenes):
            words = [(scene.solids[0].shape, scene.solids[0].color, scene.surface)[k], *options]
            plain = captions.scene_caption(scene, name_material=False)
            feature = _text_cache(model, tokenizer, [plain.replace(words[0], o, 1) for o in options])
            right.append(int((feature @ clean[i]).argmax()) == attributes(scene)[k])
        result[f"zero-shot {name}"] = bootstrap(right)
    bad = np.concatenate([np.zeros_like(data.flags), data.flags])
    numbers = np.tile(np.arange(len(scenes)), 2)
    for k, category in enumerate(CATEGORIES):
        asked = [captions.scene_caption(s, name_material=False) for s in scenes]
        gain = _texts(model, tokenizer, [captions.with_modifiers(p, [category]) for p in asked])
        gain = gain - _texts(model, tokenizer, asked)
        doubt = -torch.cat([(clean * gain).sum(-1), (flawed * gain).sum(-1)]).numpy()
        result[f"modifier AUC {category}"] = resample(auc(doubt, bad[:, k], numbers), len(scenes))
    return result


def _texts(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    return torch.cat(
        [text_features(model, encode_texts(tokenizer, texts[i : i + 250])) for i in range(0, len(texts), 250)]
    )


_CACHE: dict[tuple[int, str], torch.Tensor] = {}


def _text_cache(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> torch.Tensor:
    new = [t for t in texts if (id(model), t) not in _CACHE]
    if new:
        for t, f in zip(new, _texts(model, tokenizer, new), strict=True):
            _CACHE[(id(model), t)] = f
    return torch.stack([_CACHE[(id(model), t)] for t in texts])

"""How fast the defender answers: with a key-value cache against upstream's way, and in batches.

    python -m benchmarks.defender
    python -m benchmarks.defender --weights DIR --device cuda --dtype bfloat16

Upstream runs CLIP and the whole text again for every new token; here both ways speak about the same pictures
in one process, turn by turn, and must say the same. The second half diagnoses the same pictures one by one,
four at once and sixteen at once, masks included. Every figure is the best of several turns: what else runs on
the machine can only add time.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# This file has the name of a package, and Python would look beside a script first.
sys.path.sort(key=lambda place: Path(place).resolve() == Path(__file__).resolve().parent)

import torch
from torch import Tensor

from contracts.records import Image
from defender.checkpoint import load
from defender.legion_defender import LegionDefender
from defender.model import Legion
from defender.preprocess import clip_pixels
from tabletop.flaws import render_pair
from tabletop.scenes import SEED_RANGES

BATCHES = (1, 4, 16)
ENOUGH_TOKENS = 60
CACHE_BAR, BATCH_BAR = 4, 1.8
"""How many times faster the cache, and sixteen at once, are to be at least."""


def clock() -> float:
    """Seconds of work where one thread does all (other programs cannot lengthen it), else of the wall."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


@dataclass(frozen=True)
class Spoken:
    """One way of answering, timed."""

    ids: Tensor
    seconds: float


def with_cache(model: Legion, pixels: Tensor, prompt: Tensor, tokens: int) -> Tensor:
    """Ids (B, S) of the project's own generation."""
    _, patches = model.look(pixels)
    return model.generate(patches, prompt, max_new_tokens=tokens).ids_BS


@torch.no_grad()
def whole_prompt_per_token(
    model: Legion, pixels: Tensor, prompt: Tensor, tokens: int, clip_too: bool
) -> Tensor:
    """Ids (B, S) by running the language model over everything for each token; CLIP as well if `clip_too`,
    as upstream does."""
    ids = prompt.expand(len(pixels), -1)
    running = torch.ones(len(pixels), dtype=torch.bool, device=pixels.device)
    _, patches = model.look(pixels)
    for _ in range(tokens):
        if clip_too:
            _, patches = model.look(pixels)
        hidden = model.model(inputs_embeds=model.embed(ids, patches), use_cache=False).last_hidden_state
        following = model.lm_head(hidden[:, -1]).argmax(-1)
        ids = torch.cat([ids, torch.where(running, following, model.config.tokens.pad)[:, None]], dim=1)
        running = running & (following != model.config.tokens.eos)
        if not running.any():
            break
    return ids[:, len(prompt) :]


def best_of(turns: int, ways: Sequence[Callable[[], Tensor]]) -> list[Spoken]:
    """Each way's result and its shortest time; the ways take turns, so that both meet the same machine."""
    results: list[list[Spoken]] = [[] for _ in ways]
    for _ in range(turns):
        for way, found in zip(ways, results, strict=True):
            begun = clock()
            ids = way().cpu()  # waits for a GPU, too
            found.append(Spoken(ids, clock() - begun))
    return [min(found, key=lambda one: one.seconds) for found in results]


def compare_generation(defender: LegionDefender, images: Sequence[Image], turns: int) -> list[str]:
    """Rows of the first table. Raises SystemExit where the ways say different things or too little."""
    model, config = defender.model, defender.model.config
    pixels = torch.stack([clip_pixels(image, config.vision.image_size) for image in images]).to(model.device)
    prompt = torch.tensor(defender.dialog.prompt, device=model.device)
    tokens = config.max_new_tokens
    rows = []
    for some in (pixels[:1], pixels):
        ours, language, upstream = best_of(
            turns,
            [
                lambda some=some: with_cache(model, some, prompt, tokens),  # type: ignore[misc]
                lambda some=some: whole_prompt_per_token(model, some, prompt, tokens, False),  # type: ignore[misc]
                lambda some=some: whole_prompt_per_token(model, some, prompt, tokens, True),  # type: ignore[misc]
            ],
        )
        if not torch.equal(ours.ids, language.ids) or not torch.equal(ours.ids, upstream.ids):
            raise SystemExit("error: the cache changes what is said")
        shortest = int((ours.ids != config.tokens.pad).sum(1).min())
        if shortest < ENOUGH_TOKENS:
            raise SystemExit(f"error: an answer has only {shortest} tokens: choose pictures with more flaws")
        rows.append(
            f"| {len(some)} | {shortest}-{ours.ids.shape[1]} | {ours.seconds:.2f} s | "
            f"{language.seconds:.2f} s, {language.seconds / ours.seconds:.1f} x | "
            f"{upstream.seconds:.2f} s, {upstream.seconds / ours.seconds:.1f} x |"
        )
    return rows


def compare_batches(defender: LegionDefender, images: Sequence[Image], turns: int) -> dict[int, float]:
    """Pictures per second of whole diagnoses, by batch size."""
    shortest = dict.fromkeys(BATCHES, float("inf"))
    for _ in range(turns):
        for size in BATCHES:
            defender.batch_size = size
            begun = clock()
            defender.diagnose(images)
            shortest[size] = min(shortest[size], clock() - begun)
    return {size: len(images) / seconds for size, seconds in shortest.items()}


def wordy_pictures(defender: LegionDefender, wanted: int) -> list[Image]:
    """Flawed pictures of the test seeds whose answers are long enough to compare generation on."""
    found: list[Image] = []
    first, last = SEED_RANGES["test"]
    for seed in range(first, last, BATCHES[-1]):
        images = [render_pair(s, flaw_probability=0.95).flawed for s in range(seed, seed + BATCHES[-1])]
        for image, diagnosis in zip(images, defender.diagnose(images), strict=True):
            if len(defender.dialog.tokenizer.encode(diagnosis.answer)) > ENOUGH_TOKENS + 4:
                found.append(image)
        if len(found) >= wanted:
            break
    return found[:wanted]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("tabletop/weights/defender"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    defender = LegionDefender(load(args.weights, args.device, getattr(torch, args.dtype)), BATCHES[-1])
    images = wordy_pictures(defender, BATCHES[-1])
    print(f"{torch.get_num_threads()} threads, {args.device}, {args.dtype}\n")
    print(
        f"| pictures | new tokens | cache | language model again each token (bar: {CACHE_BAR} x) "
        "| CLIP too, as upstream |"
    )
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(compare_generation(defender, images, args.turns)), flush=True)
    first = SEED_RANGES["test"][0]
    clean = [render_pair(seed).clean for seed in range(first, first + BATCHES[-1])]
    speeds = compare_batches(defender, [*images, *clean], args.turns)
    print(f"\n| batch | pictures per second | against one by one (bar at 16: {BATCH_BAR} x) |")
    print("| --- | --- | --- |")
    for size, speed in speeds.items():
        print(f"| {size} | {speed:.1f} | {speed / speeds[1]:.2f} x |")


if __name__ == "__main__":
    main()

"""`legion train defender`: the small LEGION, from the tiny CLIP to a checkpoint.

Tower warm-up, then the paper's stage 1 (localization and explanation) and stage 2 (detection), on pairs of a
clean and a flawed picture of one scene, each as rendered and after the generator's autoencoder, and for stage
2 also on the generator's own pictures. Stage 1 comes four times: the second time it settles, with the losses
weighted as in the paper from its start; the third time it sees mostly pictures that are compressed, noisy or
blurred, and more of the generator's own; the fourth time the same with the noise taken out, as the defender
does before it looks (defender/denoising.py). Damage hides a decoder's trace, so both stages then run jointly
before stage 2 has the last word. Every part resumes where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from contracts.intervals import Interval
from defender import checkpoint
from defender.answers import CLEAN_ANSWER, OPENING
from defender.config import LegionConfig
from defender.datasets import Chained, Collator, Sample, Samples
from defender.evaluation import calibrate, measured
from defender.legion_defender import LegionDefender
from defender.model import Legion
from defender.text import Dialog, Tokenizer, render_prompt, train_tokenizer
from defender.training.heads import VisionHeads
from defender.training.schedule import Outcome, Schedule
from defender.training.stages import pretrain_vision, train_joint, train_stage1, train_stage2
from defender.views import Denoised, Reframed, Worn
from tabletop.data import PairSet
from tabletop.defender_config import INSTRUCTION, tabletop_config
from tabletop.flaws import KINDS
from tabletop.scenes import ATTRIBUTE_SIZES, attributes

Pictures = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""Clean and flawed pictures of a data set, each (N, H, W, 3)."""

PAIRS = 16_000
PAINTED_TIMES, MORE_PAINTED_TIMES = 4, 6
"""How often a labeled painting counts in a pass, and in one of the hardening: there are few of them."""
VIEWS_SHARE, VIEWS_SEED = 0.25, 64
"""How many of the samples are seen closer and off the middle."""
WORN_SHARE, WORN_SEED = 0.3, 65
"""How many are compressed, noisy or blurred."""
ROUGH_SHARE, ROUGH_SEED, ROUGH_ODDS = 0.6, 68, (1.0, 4.0, 1.0)
"""The same while stage 1 hardens; noise costs most."""
MAX_NOISE = 0.03
"""Noisier pictures are denoised before the defender looks; no render or painting is."""
VOCABULARY = 800
FIRST_TOKEN_WEIGHT = 5.0
HEAD_SIZES = (*ATTRIBUTE_SIZES, *(len(kinds) for kinds in KINDS.values()))
WARM_UP = Schedule(
    steps=1_200, batch_size=48, learning_rate=1.5e-3, warmup=150, weight_decay=0.02, seed=61, group=2
)
STAGE_1 = Schedule(
    steps=4_000,
    batch_size=48,
    learning_rate=1e-3,
    warmup=200,
    weight_decay=0.02,
    seed=62,
    group=2,
    ema_decay=0.999,
)
SETTLING = replace(STAGE_1, learning_rate=7e-4, warmup=100, seed=66)
SETTLING_WEIGHT = 0.1
"""Weight of the vision heads' tasks while stage 1 settles; the boost of its mask losses is over."""
HARDENING = replace(STAGE_1, steps=2_400, learning_rate=5e-4, warmup=100, seed=67)
CLEARING = replace(HARDENING, steps=1_200, learning_rate=4e-4, seed=68)
JOINT = replace(CLEARING, steps=500, learning_rate=3e-4, warmup=50, seed=69, ema_decay=0.98)
STAGE_2 = Schedule(steps=800, batch_size=64, learning_rate=1e-3, warmup=0, seed=63)


class TabletopSamples:
    """Pairs as samples: clean and flawed of a scene are neighbors.

    The rendered pictures come first and count as real (`real=False` where they are not renders); those that
    went through the generator's decoder follow, and count as generated.
    """

    def __init__(self, pairs: PairSet, decoded: Pictures | None = None, real: bool = True) -> None:
        self._pairs, self._real = pairs, real
        self._pictures = [(pairs.clean, pairs.flawed), *([decoded] if decoded is not None else [])]

    def __len__(self) -> int:
        return 2 * len(self._pairs) * len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        source, rest = divmod(index, 2 * len(self._pairs))
        pair, flawed = divmod(rest, 2)
        facts = self._pairs.facts[pair]
        kinds = {f["category"]: f["kind"] for f in facts["findings"]} if flawed else {}  # type: ignore[attr-defined]
        return Sample(
            self._pictures[source][flawed][pair],
            self._pairs.findings(pair) if flawed else (),
            self._real and source == 0,
            (
                *attributes(self._pairs.scenes[pair]),
                *(names.index(kinds[c]) if c in kinds else -1 for c, names in KINDS.items()),
            ),
        )


@dataclass(frozen=True)
class Plan:
    """How long each part runs."""

    warm_up: Schedule = WARM_UP
    stage_1: Schedule = STAGE_1
    settling: Schedule = SETTLING
    hardening: Schedule = HARDENING
    clearing: Schedule = CLEARING
    joint: Schedule = JOINT
    stage_2: Schedule = STAGE_2

    def parts(self) -> dict[str, Schedule]:
        """In their order, by the names that logs and cards have for them."""
        return {field.name.replace("_", "-"): getattr(self, field.name) for field in fields(self)}

    def paused_after(self, seconds: float) -> Plan:
        """The same plan, each part of it stopping for now after so many seconds of a sitting."""
        return Plan(*(replace(part, pause_after=seconds) for part in self.parts().values()))


def prepare(pairs: PairSet, folder: Path, clip_folder: Path | None, seed: int = 60) -> tuple[Legion, Dialog]:
    """An untrained defender that knows the words of `pairs`, with the tiny CLIP's tower if there is one."""
    path = folder / "tokenizer.model"
    lines = {line for facts in pairs.facts for line in _spoken(facts)}
    prompt = render_prompt("", INSTRUCTION)
    tokens = train_tokenizer([*lines, OPENING, CLEAN_ANSWER, prompt], path, VOCABULARY)
    config: LegionConfig = tabletop_config(tokens.im_start)
    torch.manual_seed(seed)
    model = Legion(config)
    # SAM's own tokens have variance 1; prompts that start out much smaller are drowned by them and ignored.
    torch.nn.init.normal_(
        model.get_parameter("model.text_hidden_fcs.0.2.weight"), std=(2 / config.language.hidden_size) ** 0.5
    )
    if clip_folder is not None:
        take_clip_tower(model, clip_folder)
    return model, Dialog(config, Tokenizer.load(path, tokens))


def take_clip_tower(model: Legion, clip_folder: Path) -> None:
    """Copy the vision tower of a CLIP saved by transformers into the defender's, name by name."""
    prefix = "vision_model."
    weights = load_file(clip_folder / "model.safetensors")
    tower = {
        name.removeprefix(prefix): value.float()
        for name, value in weights.items()
        if name.startswith(prefix) and not name.endswith("position_ids")
    }
    model.model.vision_tower.clip.load_state_dict(tower)


def train(
    pairs: PairSet,
    build: Path,
    out: Path,
    *,
    clip_folder: Path | None = None,
    decoded: Pictures | None = None,
    paintings: tuple[Samples, Samples] | None = None,
    further: PairSet | None = None,
    plan: Plan | None = None,
) -> dict[str, Outcome]:
    """All seven parts, one after the other; each writes its result to `build` and is not run again.

    `decoded` are the pairs' pictures after the generator's autoencoder, `paintings` its own, those with
    labels first, then the others. Without the paintings the joint part and stage 2 are left out. `further`
    are pairs that only the settling sees, as rendered.
    A part that was paused (`pause_after`) ends the sitting; the same call goes on from there.
    """
    plan = plan or Plan()
    build.mkdir(parents=True, exist_ok=True)
    model, dialog = prepare(pairs, build, clip_folder)
    collate = Collator(model.config, dialog, FIRST_TOKEN_WEIGHT)
    rendered: Samples = TabletopSamples(pairs, decoded)
    labeled = [] if paintings is None else [paintings[0]]
    samples = Chained(rendered, *labeled * PAINTED_TIMES)
    views = _seen(samples)
    outcomes: dict[str, Outcome] = {}
    heads, warmed = warm_up(model, views, collate, plan.warm_up, build)
    if warmed is not None:
        outcomes["warm-up"] = warmed
        if not warmed.finished:
            return outcomes
    settled = views if further is None else _seen(Chained(samples, TabletopSamples(further)))
    more = Chained(rendered, *labeled * MORE_PAINTED_TIMES)
    rough = _roughly_seen(more, ROUGH_SHARE)
    as_in_paper = partial(train_stage1, mask_boost=1.0)
    rounds: list[tuple[str, Samples, Schedule, Callable[..., Outcome]]] = [
        ("stage-1", views, plan.stage_1, partial(train_stage1, heads=heads)),
        ("settling", settled, plan.settling, partial(as_in_paper, heads=heads, heads_weight=SETTLING_WEIGHT)),
        ("hardening", rough, plan.hardening, as_in_paper),
        ("clearing", Denoised(rough, MAX_NOISE), plan.clearing, as_in_paper),
    ]
    if paintings is not None:
        less_rough = Denoised(_roughly_seen(more, WORN_SHARE), MAX_NOISE)
        rounds.append(("joint", less_rough, plan.joint, partial(train_joint, mask_boost=1.0)))
    for name, seen, schedule, stage in rounds:
        if _restore(build / f"{name}.safetensors", model, heads):
            continue
        outcomes[name] = stage(model, seen, collate, schedule, build, name=name)
        if not outcomes[name].finished:
            return outcomes
        _keep(build / f"{name}.safetensors", model, heads)
        checkpoint.save(out, model, dialog.tokenizer)
    if paintings is not None:
        everything = Chained(samples, paintings[1])
        outcomes["stage-2"] = train_stage2(model, everything, collate, plan.stage_2, build)
        checkpoint.save(out, model, dialog.tokenizer)
    return outcomes


def warm_up(
    model: Legion, samples: Samples, collate: Collator, schedule: Schedule, build: Path
) -> tuple[VisionHeads, Outcome | None]:
    """Warm the towers up, or read them from `build` (no outcome then); the heads that it was done with."""
    path = build / "warm-up.safetensors"
    torch.manual_seed(schedule.seed)
    heads = VisionHeads(model, HEAD_SIZES)
    if _restore(path, model, heads):
        return heads, None
    outcome = pretrain_vision(model, heads, samples, collate, schedule, build)
    if outcome.finished:
        _keep(path, model, heads)
    return heads, outcome


def _seen(samples: Samples) -> Samples:
    """As training sees them: some closer and off the middle, some worn."""
    return Worn(Reframed(samples, VIEWS_SHARE, VIEWS_SEED), WORN_SHARE, WORN_SEED)


def _roughly_seen(samples: Samples, share: float) -> Samples:
    """As the hardening sees them: this share of them worn, mostly by noise."""
    return Worn(Reframed(samples, VIEWS_SHARE, VIEWS_SEED), share, ROUGH_SEED, ROUGH_ODDS)


def calibrate_and_measure(
    out: Path, validation: PairSet, decoded: Pictures | None = None
) -> dict[str, dict[str, Interval]]:
    """Choose the thresholds on the first half of held-out pairs, measure on the second, by kind of picture.

    Where pictures after the autoencoder are given, the thresholds are chosen on those: they are what the
    defender meets in use. Writes `thresholds.json` into the checkpoint.
    """
    half = len(validation) // 2
    sources = {"rendered": (validation.clean, validation.flawed)}
    if decoded is not None:
        sources["after the autoencoder"] = decoded
    chosen = list(sources)[-1]
    first = TabletopSamples(part(validation, 0, half, sources[chosen]))
    checkpoint.save_thresholds(out, calibrate(LegionDefender.load(out).at(max_noise=MAX_NOISE), first))
    defender = LegionDefender.load(out)
    figures = {}
    for name, pictures in sources.items():
        rest = part(validation, half, len(validation), pictures)
        found = measured(defender, TabletopSamples(rest, real=name == "rendered"))
        figures[name] = {figure.name: figure.interval for figure in found}
    return figures


def part(pairs: PairSet, start: int, stop: int, pictures: Pictures | None = None) -> PairSet:
    """Pairs start..stop-1, with other pictures in place of their own if some are given."""
    clean, flawed = pictures or (pairs.clean, pairs.flawed)
    return PairSet(clean[start:stop], flawed[start:stop], pairs.masks[start:stop], pairs.facts[start:stop])


def _spoken(facts: dict[str, object]) -> Sequence[str]:
    findings: Sequence[dict[str, str]] = facts["findings"]  # type: ignore[assignment]
    return [text for f in findings for text in (f["phrase"], f": {f['explanation']}.")]


def _keep(path: Path, model: Legion, heads: VisionHeads) -> None:
    """Write a network and its heads, as a part of the training leaves them."""
    both = torch.nn.ModuleDict({"model": model, "heads": heads}).state_dict()
    partial = path.with_suffix(".tmp")
    save_file({name: value.detach().clone().contiguous() for name, value in both.items()}, partial)
    partial.replace(path)


def _restore(path: Path, model: Legion, heads: VisionHeads) -> bool:
    """Read what `_keep` wrote; False if there is nothing."""
    if not path.exists():
        return False
    torch.nn.ModuleDict({"model": model, "heads": heads}).load_state_dict(load_file(path))
    return True

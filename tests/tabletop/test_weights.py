"""The bundled weights are what their cards say: standard formats, small, good on scenes never seen."""

import json
from pathlib import Path

import numpy as np
import pytest

from contracts.records import CATEGORIES, GenerationRequest
from tabletop import captions
from tabletop.flaws import render_pair
from tabletop.scenes import SEED_RANGES, attributes, solid_count

WEIGHTS = Path("tabletop/weights")
MEGABYTE = 1_000_000
pytestmark = pytest.mark.slow


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def pairs():
    first = SEED_RANGES["test"][0] + 500_000
    return [render_pair(seed, objects=solid_count(seed)) for seed in range(first, first + 64)]


@pytest.mark.parametrize(
    ("name", "limit"), [("generator", 25), ("defender", 20), ("clip", 5), ("scorer", 5), ("judge", 5)]
)
def test_each_model_is_small_and_has_a_card(name, limit):
    assert size(WEIGHTS / name) <= limit * MEGABYTE
    assert (WEIGHTS / name / "README.md").read_text().startswith(f"# {name}\n")
    assert json.loads((WEIGHTS / name / "training.json").read_text())["training_seconds"] > 0
    assert not [
        p for p in (WEIGHTS / name).rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl")
    ]


def test_all_weights_together_are_small():
    assert size(WEIGHTS) <= 60 * MEGABYTE


def test_generator_loads_as_any_diffusers_pipeline_does():
    from diffusers import AutoPipelineForInpainting, AutoPipelineForText2Image
    from PIL import Image

    pipeline = AutoPipelineForText2Image.from_pretrained(WEIGHTS / "generator")
    assert pipeline.unet.config.in_channels == 4
    picture = pipeline("a red cone on a wooden table", num_inference_steps=2).images[0]
    assert picture.size == (64, 64)
    inpainting = AutoPipelineForInpainting.from_pretrained(WEIGHTS / "generator")
    mask = Image.new("L", (64, 64), 0)
    mask.paste(255, (16, 16, 48, 48))
    repaired = inpainting("a red cone", image=picture, mask_image=mask, num_inference_steps=4).images[0]
    assert repaired.size == (64, 64)


def test_generator_paints_what_it_is_asked_for():
    from controller.generators.diffusers_pipeline import DiffusersGenerator
    from tabletop import judge
    from tabletop.scenes import COLORS, SHAPES

    generator = DiffusersGenerator.load(WEIGHTS / "generator", batch_size=16)
    prompts = captions.drawn_prompts(32, 555)
    requests = [
        GenerationRequest(captions.with_modifiers(p, CATEGORIES), 40 + i) for i, p in enumerate(prompts)
    ]
    opinion = judge.judge(judge.load(WEIGHTS / "judge"), np.stack(generator.generate(requests)))
    words = [set(p.split()) for p in prompts]
    right = [
        SHAPES[s] in w and COLORS[c] in w for s, c, w in zip(opinion.shape, opinion.color, words, strict=True)
    ]
    assert np.mean(right) >= 0.8
    assert generator.unknown_words("a zebra on a wooden table") == ["zebra"]


def test_judge_knows_scenes_it_never_saw(pairs):
    from tabletop import judge

    model = judge.load(WEIGHTS / "judge")
    clean = judge.judge(model, np.stack([p.clean for p in pairs]))
    flawed = judge.judge(model, np.stack([p.flawed for p in pairs]))
    truth = np.array([attributes(p.scene) for p in pairs])
    assert (clean.shape == truth[:, 0]).mean() >= 0.9
    assert (clean.color == truth[:, 1]).mean() >= 0.9
    assert clean.flawed.mean() <= 0.15
    assert flawed.flawed.mean() >= 0.85


def test_scorer_prefers_the_clean_picture_and_the_matching_prompt(pairs):
    from controller.scorers.clip import load_clip

    scorer = load_clip(WEIGHTS / "scorer", "preference")
    prompts = [captions.scene_caption(p.scene) for p in pairs]
    clean = np.array([s.value for s in scorer.score([p.clean for p in pairs], prompts)])
    flawed = np.array([s.value for s in scorer.score([p.flawed for p in pairs], prompts)])
    other = np.array([s.value for s in scorer.score([p.clean for p in pairs], prompts[1:] + prompts[:1])])
    assert (clean > flawed).mean() >= 0.9
    differ = np.array([a != b for a, b in zip(prompts, prompts[1:] + prompts[:1], strict=True)])
    assert (clean > other)[differ].mean() >= 0.95


def test_defender_finds_flaws_and_can_say_there_are_none(pairs):
    from defender.legion_defender import LegionDefender

    defender = LegionDefender.load(WEIGHTS / "defender")
    clean = defender.diagnose([p.clean for p in pairs])
    flawed = defender.diagnose([p.flawed for p in pairs])
    assert np.mean([bool(d.findings) for d in clean]) <= 0.2
    assert np.mean([bool(d.findings) for d in flawed]) >= 0.6
    overlap = []
    for diagnosis, pair in zip(flawed, pairs, strict=True):
        truth = np.any([f.mask for f in pair.findings], axis=0)
        found = diagnosis.union(truth.shape)
        overlap.append(2 * (truth & found).sum() / max(1, truth.sum() + found.sum()))
    assert np.mean(overlap) >= 0.4

"""The bundled weights are what their cards say: standard formats, small, good on scenes never seen.

The bars are those of the README's tables. A measurement on so few pictures passes unless its 95 % interval
lies wholly on the wrong side of the bar.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench import Bench, bundled_tools, fewer, loop_settings
from contracts.intervals import bootstrap, wilson
from contracts.records import CATEGORIES
from controller.regeneration import Case, regenerate
from memory_bank import open_memory_bank
from tabletop import captions
from tabletop.flaws import render_pair
from tabletop.scenes import SEED_RANGES, attributes, solid_count

WEIGHTS = Path("tabletop/weights")
MEGABYTE = 1_000_000
PAINTED, LOOPED, SEED = 48, 32, 555
pytestmark = pytest.mark.slow


def at_least(bar, right) -> bool:
    """Whether a share of right ones does not lie surely below the bar."""
    return wilson(int(np.sum(right)), len(right)).high >= bar


def at_most(bar, wrong) -> bool:
    return wilson(int(np.sum(wrong)), len(wrong)).low <= bar


def size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def pairs():
    first = SEED_RANGES["test"][0] + 500_000
    return [render_pair(seed, objects=solid_count(seed)) for seed in range(first, first + 64)]


@pytest.fixture(scope="module")
def bench():
    return Bench(PAINTED, SEED, bundled_tools())


@pytest.fixture(scope="module")
def plain(bench):
    """The judge's word on pictures of plain prompts."""
    return bench.judged(bench.paint())


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("generator", 25),
        ("inpainter", 25),
        ("defender", 20),
        ("clip", 5),
        ("scorer", 5),
        ("reporter", 5),
        ("judge", 5),
        ("geometry", 5),
    ],
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


def test_generator_paints_what_it_is_asked_for_and_flaws_unless_told_otherwise(bench, plain):
    everything = bench.judged(bench.paint(CATEGORIES))
    assert at_least(0.99, everything.object_right) and at_least(0.99, everything.color_right)
    assert at_least(0.35, plain.flawed) and at_most(0.70, plain.flawed)
    assert at_most(0.20, everything.flawed)
    assert bootstrap(fewer(everything, plain)).low > 0


def test_each_modifier_removes_its_own_kind_of_flaw(bench, plain):
    changes = []
    for number, category in enumerate(CATEGORIES):
        single = bench.judged(bench.paint([category]))
        assert at_least(0.6, ~single.flaws[plain.flaws[:, number], number]), category
        changes.append(fewer(single, plain, category))
        assert changes[-1].mean() >= 0, category
    assert bootstrap(np.sum(changes, axis=0)).low > 0


def test_the_loop_returns_fewer_flawed_pictures_than_it_began_with(tmp_path):
    bench = Bench(LOOPED, SEED + 1, bundled_tools())
    cases = [Case(f"test-{i}", prompt, bench.seed + i) for i, prompt in enumerate(bench.prompts)]
    bank = open_memory_bank(f"sqlite:///{tmp_path}/bank.sqlite3", str(tmp_path / "store"))
    runs = regenerate(cases, bench.tools, bank, loop_settings())
    first = bench.judged(np.stack([bank.image(run.rounds[0].image) for run in runs]))
    returned = bench.judged(np.stack([bank.image(run.result) for run in runs]))
    assert bootstrap(fewer(returned, first)).mean > 0
    assert at_most(0.35, returned.flawed[first.flawed])
    assert at_least(0.99, returned.right)


def test_generator_names_words_it_does_not_know(bench):
    assert bench.tools.generator.unknown_words("a zebra on a wooden table") == ["zebra"]


def test_judge_knows_scenes_it_never_saw(pairs):
    from tabletop import judge

    model = judge.load(WEIGHTS / "judge")
    clean = judge.judge(model, np.stack([p.clean for p in pairs]))
    flawed = judge.judge(model, np.stack([p.flawed for p in pairs]))
    truth = np.array([attributes(p.scene) for p in pairs])
    for found, name, bar in (
        (clean.shape, 0, 0.96),
        (clean.color, 1, 0.98),
        (clean.second_shape, 3, 0.96),
        (clean.second_color, 4, 0.98),
    ):
        assert at_least(bar, found == truth[:, name])
    flags = np.array([p.flags for p in pairs])
    for category, name in enumerate(CATEGORIES):
        right = np.concatenate([flawed.flaws[:, category] > 0.5, clean.flaws[:, category] > 0.5])
        assert at_least(0.9, right == np.concatenate([flags[:, category], np.zeros(len(pairs), bool)])), name
    assert at_most(0.05, clean.flawed) and at_least(0.95, flawed.flawed)


@pytest.mark.parametrize("name", ["scorer", "reporter"])
def test_scorers_prefer_the_clean_picture_and_the_matching_prompt(pairs, name):
    from controller.scorers.clip import load_clip

    scorer = load_clip(WEIGHTS / name, name)
    prompts = [captions.scene_caption(p.scene) for p in pairs]
    clean = np.array([s.value for s in scorer.score([p.clean for p in pairs], prompts)])
    flawed = np.array([s.value for s in scorer.score([p.flawed for p in pairs], prompts)])
    other = np.array([s.value for s in scorer.score([p.clean for p in pairs], prompts[1:] + prompts[:1])])
    assert at_least(0.97, clean > flawed)
    differ = np.array([a != b for a, b in zip(prompts, prompts[1:] + prompts[:1], strict=True)])
    assert at_least(0.97, (clean > other)[differ])


def test_defender_finds_flaws_and_can_say_there_are_none(pairs):
    from defender.legion_defender import LegionDefender

    defender = LegionDefender.load(WEIGHTS / "defender")
    clean = defender.diagnose([p.clean for p in pairs])
    flawed = defender.diagnose([p.flawed for p in pairs])
    assert at_most(0.04, [bool(d.findings) for d in clean])
    assert at_least(0.85, [bool(d.findings) for d in flawed])
    overlap = []
    for diagnosis, pair in zip(flawed, pairs, strict=True):
        truth = np.any([f.mask for f in pair.findings], axis=0)
        found = diagnosis.union(truth.shape)
        overlap.append(2 * (truth & found).sum() / max(1, truth.sum() + found.sum()))
    assert bootstrap(overlap).high >= 0.7

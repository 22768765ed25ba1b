"""The defender's recipe, start to end, on a handful of pairs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from defender import checkpoint
from defender.answers import compose
from defender.legion_defender import LegionDefender
from defender.training.schedule import Schedule
from tabletop import data, train_defender
from tabletop.flaws import KINDS
from tabletop.paintings import PaintedSamples, Painting
from tabletop.scenes import ATTRIBUTE_SIZES, COLORS, SHAPES
from tabletop.train_defender import HEAD_SIZES, Plan, TabletopSamples

pytestmark = pytest.mark.slow

BRIEF = Schedule(steps=2, batch_size=4, group=2, warmup=0, bf16=False)
AVERAGED = replace(BRIEF, ema_decay=0.5)
PLAN = Plan(BRIEF, AVERAGED, AVERAGED, AVERAGED, AVERAGED, AVERAGED, replace(BRIEF, group=1))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    usual = data.SHARD
    data.SHARD = 6
    try:
        data._make_shard(("train", 0, folder, 64))
        return data.load("train", 6, folder)
    finally:
        data.SHARD = usual


def test_samples_hold_clean_and_flawed_side_by_side(pairs):
    decoded = (255 - pairs.clean, 255 - pairs.flawed)
    samples = TabletopSamples(pairs, decoded)
    assert len(samples) == 24
    clean, flawed, other = samples[4], samples[5], samples[12 + 5]
    assert np.array_equal(clean.image, pairs.clean[2]) and clean.findings == () and clean.is_real
    assert np.array_equal(flawed.image, pairs.flawed[2])
    assert [f.explanation for f in flawed.findings] == [f.explanation for f in pairs.findings(2)]
    assert np.array_equal(other.image, decoded[1][2]) and other.is_real is False
    solid = pairs.scenes[2].solids[0]
    assert flawed.attributes[:2] == (SHAPES.index(solid.shape), COLORS.index(solid.color))
    for i in range(12):
        for value, size in zip(samples[i].attributes, HEAD_SIZES, strict=True):
            assert -1 <= value < size
    kinds = flawed.attributes[len(ATTRIBUTE_SIZES) :]
    assert [k >= 0 for k in kinds] == [c in {f.category for f in flawed.findings} for c in KINDS]


def test_whole_recipe_and_its_resume(pairs, tmp_path):
    asked = ("physics", "structure", "distortion")
    made = [Painting(p, scene, asked) for p, scene in zip(pairs.flawed, pairs.scenes, strict=True)]
    sound = [[np.zeros((64, 64), bool)] * len(scene.solids) for scene in pairs.scenes]
    painted = (PaintedSamples(made[:4], sound[:4]), PaintedSamples(made[4:], [None] * len(made[4:])))
    build, out = tmp_path / "build", tmp_path / "out"
    outcomes = train_defender.train(
        pairs, build, out, decoded=(pairs.clean, pairs.flawed), paintings=painted, plan=PLAN
    )
    assert list(outcomes) == ["warm-up", "stage-1", "settling", "hardening", "clearing", "joint", "stage-2"]
    before = load_file(out / "model.safetensors")
    again = train_defender.train(
        pairs, build, out, decoded=(pairs.clean, pairs.flawed), paintings=painted, plan=PLAN
    )
    assert list(again) == ["stage-2"] and again["stage-2"].step == 2
    after = load_file(out / "model.safetensors")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert sum(p.stat().st_size for p in out.iterdir()) < 20e6

    figures = train_defender.calibrate_and_measure(out, pairs, (pairs.clean, pairs.flawed))
    assert set(figures) == {"rendered", "after the autoencoder"}
    assert all(0 <= v.low <= v.mean <= v.high <= 1 for values in figures.values() for v in values.values())
    defender = LegionDefender.load(out)
    assert defender.model.config.has_detection
    assert defender.thresholds == checkpoint.load(out).thresholds != checkpoint.Thresholds()
    assert defender.thresholds.max_noise == train_defender.MAX_NOISE


def test_every_answer_of_the_data_survives_the_tokenizer(pairs, tmp_path):
    _, dialog = train_defender.prepare(pairs, tmp_path, None)
    for i in range(len(pairs)):
        conversation = dialog.with_answer(compose(pairs.findings(i)))
        assert dialog.tokenizer.tokens.pad not in conversation.ids
        said = " ".join(dialog.tokenizer.decode(conversation.ids[len(dialog.prompt) : -1]).split())
        assert said == compose(pairs.findings(i))


def test_clip_tower_is_taken_over(pairs, tmp_path):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    model, _ = train_defender.prepare(pairs, tmp_path, None)
    vision = model.config.vision
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=vision.hidden_size,
            intermediate_size=vision.intermediate_size,
            num_hidden_layers=vision.num_hidden_layers,
            num_attention_heads=vision.num_attention_heads,
            image_size=vision.image_size,
            patch_size=vision.patch_size,
            hidden_act=vision.hidden_act,
        )
    )
    clip.save_pretrained(tmp_path / "clip")
    train_defender.take_clip_tower(model, tmp_path / "clip")
    picture = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        theirs = clip(picture, output_hidden_states=True).hidden_states[-2]
        cls, patches = model.look(picture)
    assert torch.allclose(torch.cat([cls[:, None], patches], 1), theirs, atol=1e-5)

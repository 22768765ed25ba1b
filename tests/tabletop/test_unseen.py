"""Unseen prompts are in no training's captions, and those are the captions that trainings really use."""

import argparse

import numpy as np
import pytest

from contracts.errors import InvalidInput
from tabletop import captions, data, inputs, unseen
from tabletop.scenes import SEED_RANGES, sample_scene, solid_count
from tabletop.unseen import trained_captions, unseen_scenes

TRAINED = SEED_RANGES["train"][0] + data.DEFAULT_COUNTS["train"]


def plain(caption: str) -> str:
    """Without opening and modifiers."""
    for opening in captions.OPENINGS[1:]:
        caption = caption.removeprefix(opening)
    return caption.split(",")[0]


def test_no_unseen_prompt_is_a_training_caption_however_it_was_drawn():
    asked = {captions.scene_caption(scene) for scene in unseen_scenes(256, 9001)}
    assert len(asked) == 256
    rng = np.random.default_rng(0)
    for seed in range(TRAINED - 4_000, TRAINED):
        scene = sample_scene(seed, solid_count(seed))
        told = plain(captions.training_caption(scene, (False, False, False), rng))
        assert told not in asked and told in trained_captions()


def test_what_the_generator_painted_for_other_models_counts(monkeypatch):
    painted = []
    monkeypatch.setattr(inputs, "fingerprint", lambda folder: "none")
    monkeypatch.setattr("numpy.save", lambda path, pictures: None)
    monkeypatch.setattr("numpy.load", lambda path: None)
    monkeypatch.setattr(
        "tabletop.paintings.paint", lambda folder, scenes, asked, seed, device: painted.extend(scenes)
    )
    args = argparse.Namespace(weights=inputs.Path("none"), build=inputs.Path("none"), device="cpu")
    inputs._painted(args, "train", inputs.PAINTING_SEED, inputs.ALL_MODIFIERS)
    inputs._painted(args, "judge", inputs.JUDGED_PAINTING_SEED, inputs.JUDGED_ALL_MODIFIERS)
    assert len(painted) == 2 * inputs.PAINTED
    assert {captions.scene_caption(scene) for scene in painted} <= trained_captions()


def test_every_prompt_of_one_solid_was_had():
    assert set(captions.drawn_prompts(240, 9001)) <= trained_captions()


def test_unseen_scenes_are_repeatable_and_few():
    assert unseen_scenes(20, 5) == unseen_scenes(30, 5)[:20]
    assert unseen_scenes(20, 5) != unseen_scenes(20, 6)
    assert all(scene.solids[0].color != scene.solids[1].color for scene in unseen_scenes(256, 5))
    for count in (0, captions.TWO_SOLIDS):
        with pytest.raises(InvalidInput, match="choose from 1 to"):
            unseen.unseen_scenes(count, 5)

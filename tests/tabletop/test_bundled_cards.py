"""The bundled weights are what `legion train` made with the settings in the code: each card says with which
settings, from which scenes and where its model was trained."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tabletop import autoencoder, cards, clip, data, generator, geometry, inpainter, judge, preference
from tabletop import train_defender as defender
from tabletop.scenes import SEED_RANGES

WEIGHTS = Path("tabletop/weights")
TRAIN = data.DEFAULT_COUNTS["train"]
MADE = {
    "clip": ({"clip": clip.SCHEDULE}, "train", clip.PAIRS),
    "scorer": ({"scorer": preference.SCHEDULE}, "train", preference.PAIRS),
    "reporter": (
        {"clip": preference.REPORTER_CLIP, "scorer": preference.REPORTER},
        "judge",
        preference.REPORTER_PAIRS,
    ),
    "geometry": ({"geometry": geometry.SCHEDULE}, "geometry", len(geometry.PARTS[0])),
    "generator": (
        {
            "autoencoder": autoencoder.SCHEDULE,
            "generator": generator.SCHEDULE,
            "settling": generator.SETTLING,
            "finishing": generator.FINISHING,
        },
        "train",
        TRAIN,
    ),
    "inpainter": ({"inpainter": inpainter.SCHEDULE, "settling": inpainter.SETTLING}, "train", TRAIN),
    "judge": ({"judge": judge.SCHEDULE}, "judge", judge.PAIRS),
    "defender": (
        {
            "warm-up": defender.WARM_UP,
            "stage-1": defender.STAGE_1,
            "settling": defender.SETTLING,
            "hardening": defender.HARDENING,
            "clearing": defender.CLEARING,
            "joint": defender.JOINT,
            "stage-2": defender.STAGE_2,
        },
        "train",
        TRAIN,
    ),
}
"""For each folder the parts of its training, and the split and number of scenes it learned from."""


def card(name: str) -> dict:
    return json.loads((WEIGHTS / name / "training.json").read_text())


def settings(schedule: object) -> dict:
    """All that a result depends on, as JSON has it."""
    return json.loads(json.dumps({k: v for k, v in asdict(schedule).items() if k not in cards.PRACTICAL}))


def test_every_bundled_folder_is_checked():
    assert {folder.name for folder in WEIGHTS.iterdir() if folder.is_dir()} == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_trained_with_the_settings_in_the_code(name):
    parts = {part.pop("name"): part for part in card(name)["parts"]}
    seconds = [part.pop("seconds") for part in parts.values()]
    assert parts == {part: settings(schedule) for part, schedule in MADE[name][0].items()}
    assert all(seconds) and sum(seconds) == pytest.approx(card(name)["training_seconds"], abs=len(seconds))


@pytest.mark.parametrize("name", MADE)
def test_trained_on_the_scenes_in_the_code(name):
    _, split, pairs = MADE[name]
    first = SEED_RANGES[split][0]
    assert card(name)["pairs"] == pairs
    assert card(name)["seeds"] == [first, first + pairs]


@pytest.mark.parametrize("name", MADE)
def test_says_where_and_how_well(name):
    facts = card(name)
    assert "hardware threads" in facts["machine"] and "torch" in facts["machine"]
    assert facts["figures"]
    assert (WEIGHTS / name / "README.md").read_text() == cards.text_of(name, facts)

"""A training as a file: defaults of the paper, one line for every mistake."""

from dataclasses import replace

import pytest

from contracts.errors import InvalidInput
from defender.training.schedule import Schedule
from defender.training.settings import PRESETS, read_settings


def written(folder, text):
    path = folder / "training.toml"
    path.write_text(text)
    return path


def test_defaults_are_the_papers():
    schedule = read_settings(None).schedule_for(11_236)
    assert (schedule.batch_size, schedule.learning_rate, schedule.warmup) == (16, 1e-4, 100)
    assert (schedule.betas, schedule.weight_decay, schedule.clip) == ((0.9, 0.95), 0.0, 1.0)
    assert schedule.steps == 3 * 702 and schedule.decay == "linear"
    second = read_settings(None, {"stage": "2"}).schedule_for(720_119)
    assert (second.batch_size, second.learning_rate, second.warmup, second.decay) == (512, 1e-3, 0, "cosine")
    assert read_settings(None).lora.alpha == 16


def test_a_file_and_what_was_said_on_top_of_it(tmp_path):
    path = written(
        tmp_path,
        'stage = 1\nstart = "weights/mine"\n[schedule]\nsteps = 7\nlearning_rate = 1e-3\n[lora]\nalpha = 8\n',
    )
    settings = read_settings(path, {"schedule": {"learning_rate": 0.5, "batch_size": None}, "tracker": None})
    assert settings.start == tmp_path / "weights/mine" and settings.lora_settings.alpha == 8
    wanted = replace(PRESETS["1"], steps=7, learning_rate=0.5, warmup=0, validate_every=100, log_every=1)
    assert settings.schedule_for(100) == wanted


def test_every_key_of_a_schedule_can_be_set(tmp_path):
    from dataclasses import fields

    from defender.training.settings import ScheduleSection

    assert set(ScheduleSection.model_fields) == {f.name for f in fields(Schedule)} | {"epochs"}


def test_warm_up_is_short_where_a_training_is():
    settings = read_settings(None, {"schedule": {"epochs": 2.0}})
    assert settings.schedule_for(160).steps == 20 and settings.schedule_for(160).warmup == 2
    assert read_settings(None, {"schedule": {"warmup": 15}}).schedule_for(160).warmup == 15


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stage = 3", "stage: "),
        ("stages = 1", "stages: there is no such key"),
        ("[schedule]\nstep = 3", "schedule.step: there is no such key"),
        ("[schedule]\nsteps = 0", "schedule.steps: "),
        ("[schedule]\nlearning_rate = 'fast'", "schedule.learning_rate: "),
        ("schedule = 4", "schedule: "),
        ("[lora]\ntargets = []", "lora.targets: "),
        ("[validation]\nshare = 1.0", "validation.share: "),
        ("stage = ", "cannot be read"),
    ],
)
def test_mistakes_are_one_line_that_names_the_key(tmp_path, text, message):
    with pytest.raises(InvalidInput, match=message) as raised:
        read_settings(written(tmp_path, text), {"schedule": {"seed": 1}})
    assert "\n" not in str(raised.value) and "training.toml" in str(raised.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(InvalidInput, match="none.toml cannot be read"):
        read_settings(tmp_path / "none.toml")

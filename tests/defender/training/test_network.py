"""`legion train network` as a function: from a folder of annotated pictures to a checkpoint that loads."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from contracts.errors import CheckpointError, InvalidInput
from defender import checkpoint
from defender.legion_defender import LegionDefender
from defender.model import Legion
from defender.synthscars import export
from defender.training import reporting, state
from defender.training.network import Source, Together, gather, train_network
from defender.training.settings import read_settings

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def start(dialog, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    checkpoint.save(folder, Legion(dialog.config), dialog.tokenizer)
    return folder


@pytest.fixture
def data(samples, tmp_path):
    """Twelve flawed pictures, twelve photographs, and one that is none."""
    root = tmp_path / "data"
    flawed = [sample for sample in samples if sample.findings]
    export([*flawed, *flawed[:4]], root, "train")
    export(flawed[:3], root, "test")
    photos = root / "photos"
    photos.mkdir()
    rng = np.random.default_rng(1)
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(photos / f"{i:02d}.png")
    (photos / "zz.png").write_text("not a picture")
    return root


def settings(**values):
    schedule = {"steps": 3, "batch_size": 8, "log_every": 1, "bf16": False, **values.pop("schedule", {})}
    return read_settings(None, {"schedule": schedule, **values})


def test_stage_1_makes_a_defender_and_says_what_it_left_out(data, start, tmp_path, capfd):
    source = Source(data, "synthscars", clean=data / "photos")
    result = train_network(source, settings(validation={"share": 0.25}), tmp_path / "out", start)
    assert result.outcome.finished and (result.trained_on, result.held_out, result.broken) == (18, 6, 1)
    assert "1 of 25 samples cannot be used" in capfd.readouterr().err
    loaded = LegionDefender.load(result.best)
    assert loaded.diagnose([np.zeros((32, 32, 3), np.uint8)])
    ours, theirs = checkpoint.load(result.last).model, checkpoint.load(start).model
    moved = {n for n, p in ours.state_dict().items() if not torch.equal(p, theirs.state_dict()[n])}
    assert "model.layers.0.self_attn.q_proj.weight" in moved and "lm_head.weight" in moved
    assert not [n for n in moved if "vision_tower" in n or "k_proj" in n.split("mask_decoder")[0][-40:]]
    log = [json.loads(line) for line in (tmp_path / "out" / "stage-1.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 3] and "validation" in log[-1]


@pytest.mark.parametrize(
    ("form", "stage", "number"),
    [("loki", "1", 4), ("richhf", "joint", 4), ("loki", "2", 7), ("synthscars", "1", 7)],
)
def test_where_no_annotation_means_not_known_a_picture_without_one_teaches_nothing(
    samples, tmp_path, form, stage, number
):
    flawed = [sample for sample in samples if sample.findings][:3]
    unmarked = [replace(sample, findings=(), is_real=False, answer="") for sample in flawed]
    everything = [*unmarked, *flawed, replace(unmarked[0], is_real=True)]
    source = Source(None, form, made=lambda _split: everything)
    training = gather(source, settings(stage=stage, validation={"share": 0.0}), tmp_path).training
    told = [sample.findings or sample.is_real for sample in map(training.__getitem__, range(len(training)))]
    assert len(told) == number and (number == 7 or all(told))


def test_a_state_of_a_step_that_is_kept_already_stays(tmp_path):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    state.save(accelerator, tmp_path, "one", 3, {"weights": 1})
    (tmp_path / "one.step-000003" / "mark").touch()
    state.save(accelerator, tmp_path, "one", 3, {"weights": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["one.step-000003"]
    assert (tmp_path / "one.step-000003" / "mark").exists()
    state.save(accelerator, tmp_path, "one", 4, {"weights": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["one.step-000004"]


def test_the_same_command_goes_on(data, start, tmp_path):
    source, out = Source(data, "synthscars"), tmp_path / "out"
    paused = train_network(source, settings(schedule={"pause_after": 0.0}), out, start)
    assert (paused.outcome.finished, paused.last) == (False, None)
    (data / "train" / "images" / "000003.png").write_bytes(b"")  # is not read again to see what is usable
    inspected = (out / "samples.json").read_bytes()
    (data / "train" / "images" / "000003.png").write_bytes((data / "train/images/000002.png").read_bytes())
    assert train_network(source, settings(), out, start).outcome.finished
    assert (out / "samples.json").read_bytes() == inspected


def test_a_run_does_not_go_on_from_another_checkpoint(data, start, dialog, tmp_path):
    source, out = Source(data, "synthscars"), tmp_path / "out"
    train_network(source, settings(schedule={"pause_after": 0.0}), out, start)
    other = tmp_path / "other"
    torch.manual_seed(1)
    checkpoint.save(other, Legion(dialog.config), dialog.tokenizer)
    with pytest.raises(CheckpointError, match="origin was"):
        train_network(source, settings(start=other), out, start)


@pytest.mark.parametrize("stage", ["2", "joint"])
def test_detection_on_annotated_pictures_and_photographs(data, start, tmp_path, stage):
    source = Source(data, "synthscars", clean=data / "photos")
    asked = settings(stage=stage, trainable="all", validation={"split": "test"})
    result = train_network(source, asked, tmp_path / "out", start)
    assert (result.trained_on, result.held_out) == (24, 3)
    model = checkpoint.load(result.last).model
    before = checkpoint.load(start).model.state_dict()
    moved = {n for n, p in model.state_dict().items() if not torch.equal(p, before[n])}
    assert "prediction_head.0.weight" in moved and model.config.has_detection
    assert ("lm_head.weight" in moved) == (stage == "joint")


def test_stage_2_on_folders_of_real_and_generated(data, start, tmp_path):
    for kind, pictures in (("0_real", data / "photos"), ("1_fake", data / "train" / "images")):
        folder = tmp_path / "set" / "progan" / kind
        folder.mkdir(parents=True)
        for path in sorted(pictures.glob("[0-9]*.png")):
            (folder / path.name).write_bytes(path.read_bytes())
    result = train_network(Source(tmp_path / "set", "folders"), settings(stage="2"), tmp_path / "out", start)
    assert result.outcome.finished and result.trained_on + result.held_out == 24


def test_stage_1_of_everything_takes_back_the_head_that_no_longer_fits(data, start, tmp_path):
    result = train_network(Source(data, "synthscars"), settings(trainable="all"), tmp_path / "out", start)
    assert not checkpoint.load(result.last).model.config.has_detection


@pytest.mark.parametrize(
    ("source", "changes", "message"),
    [
        ({"format": "folders"}, {}, "stage 1 learns from artifacts"),
        (
            {"format": "synthscars"},
            {"stage": "2"},
            "0 real and 12 generated ones: add photographs",
        ),
        ({"format": "synthscars", "split": "none"}, {}, "none/annotations"),
        ({"format": "synthscars"}, {"schedule": {"batch_size": 64}}, "too few for batches of 64"),
        ({"format": "synthscars"}, {"schedule": {"accumulation": 3}}, "does not divide"),
    ],
)
def test_what_cannot_be_trained_is_one_line(data, start, tmp_path, source, changes, message):
    with pytest.raises(InvalidInput, match=message) as raised:
        train_network(Source(data, **source), settings(**changes), tmp_path / "out", start)
    assert "\n" not in str(raised.value)


def test_a_picture_that_breaks_after_the_check_is_one_clear_error(data, start, tmp_path):
    source, out = Source(data, "synthscars"), tmp_path / "out"
    train_network(source, settings(schedule={"pause_after": 0.0}), out, start)
    for path in (data / "train" / "images").iterdir():
        path.write_bytes(b"gone")
    for workers in (0, 1):
        with pytest.raises(InvalidInput, match="cannot be read") as raised:
            train_network(source, settings(schedule={"workers": workers}), out, start)
        assert "\n" not in str(raised.value)


def test_the_tracker_writes_what_tensorboard_reads(data, start, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    source, out = Source(data, "synthscars"), tmp_path / "out"
    train_network(source, settings(tracker="tensorboard", validation={"split": "test"}), out, start)
    events = EventAccumulator(str(out / "stage-1")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3]
    assert [event.step for event in events.Scalars("validation/loss")] == [3]


def test_a_missing_tracker_is_said_before_anything_is_done(data, start, tmp_path, monkeypatch):
    monkeypatch.setattr(reporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"pip install 'legion-studio\[tensorboard\]'"):
        train_network(Source(data, "synthscars"), settings(tracker="tensorboard"), tmp_path / "out", start)
    assert not (tmp_path / "out").exists()


def test_together_finds_every_sample(samples):
    both = Together([samples[:3], [], samples[3:5]])
    assert len(both) == 5
    assert [both[i] is samples[i] for i in range(5)] == [True] * 5


def test_the_best_is_the_least_validation_loss(data, start, tmp_path):
    """A rate so high that the loss jumps about; how a machine rounds decides which step ends up the best."""
    schedule = {"steps": 6, "learning_rate": 1.0, "validate_every": 1, "decay": "none"}
    asked = settings(schedule=schedule, validation={"split": "test"})
    result = train_network(Source(data, "synthscars"), asked, tmp_path / "out", start)
    lines = [json.loads(text) for text in (tmp_path / "out" / "stage-1.jsonl").read_text().splitlines()]
    values = [line["validation"]["loss"] for line in lines if "validation" in line]
    flags = [line["best"] for line in lines if "validation" in line]
    assert len(values) == 6 and False in flags
    assert flags == [value == min(values[: i + 1]) for i, value in enumerate(values)]
    best, last = (checkpoint.load(folder).model.lm_head.weight for folder in (result.best, result.last))
    assert torch.equal(best, last) == flags[-1]


def test_settings_are_kept_beside_the_run(data, start, tmp_path):
    train_network(Source(data, "synthscars"), settings(), tmp_path / "out", start)
    kept = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert kept["schedule"]["steps"] == 3 and kept["schedule"]["learning_rate"] == 1e-4
    assert kept["settings"]["lora"]["alpha"] == 16 and kept["source"]["format"] == "synthscars"


def test_a_run_does_not_go_on_with_other_data_of_the_same_size(data, start, samples, tmp_path):
    out = tmp_path / "out"
    train_network(Source(data, "synthscars"), settings(schedule={"pause_after": 0.0}), out, start)
    flawed = [sample for sample in samples if sample.findings]
    other = [replace(s, image=255 - s.image) for s in [*flawed, *flawed[:4]]]
    export(other, tmp_path / "other", "train")
    with pytest.raises(CheckpointError, match="begun with other pictures or annotations"):
        train_network(Source(tmp_path / "other", "synthscars"), settings(), out, start)
    held_out = settings(validation={"share": 0.0, "split": "test"})
    with pytest.raises(CheckpointError, match="begun with other"):
        train_network(Source(data, "synthscars"), held_out, out, start)
    moved = tmp_path / "moved"
    data.rename(moved)
    assert train_network(Source(moved, "synthscars"), settings(), out, start).outcome.finished


def test_answers_that_open_in_other_words_take_the_verdict_from_the_first_token(data, start, tmp_path):
    run = settings(schedule={"steps": 1})
    ours = train_network(Source(data, "synthscars"), run, tmp_path / "ours", start)
    assert checkpoint.load(ours.last).model.config.verdict_first
    path = data / "train" / "annotations" / "train.json"
    path.write_text(path.read_text().replace("Upon examining the image. I have", "In this photo we"))
    theirs = train_network(Source(data, "synthscars"), run, tmp_path / "theirs", start)
    assert not checkpoint.load(theirs.last).model.config.verdict_first

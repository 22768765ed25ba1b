"""kill -9 and processes in numbers: a training ends with the weights that it would have had undisturbed."""

import json
import signal
from dataclasses import replace

import pytest
import torch
from processes import Job, finish, kill_when, start
from safetensors.torch import load_file

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(dialog, tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    (folder / "tokenizer.model").write_bytes(dialog.tokenizer.model)
    return Job(folder / "none", folder / "tokenizer.model", dialog.config.to_json())


def undisturbed(job, out, world=1):
    done = replace(job, out=out)
    assert finish(start(done, world)) == [0] * world
    return done


def lines(job):
    """Every line of the log, without times."""
    path = job.out / f"{'joint' if job.stage == 'joint' else 'stage-' + job.stage}.jsonl"
    texts = path.read_text().splitlines() if path.exists() else []
    parsed = [json.loads(text) for text in texts if text.endswith("}")]
    return [{k: v for k, v in line.items() if k not in ("seconds", "per_second")} for line in parsed]


def losses(job):
    return [line["loss"] for line in lines(job) if "loss" in line]


def assert_same_end(job, other):
    assert lines(job) == lines(other)
    assert [line["step"] for line in lines(job)] == [1, 2, 3, 4, 4, 5, 6, 6]  # two of them validations
    for name in ("final", "best"):
        ours, theirs = (load_file(j.out / f"{name}.safetensors") for j in (job, other))
        assert ours.keys() == theirs.keys() and ours
        assert not [n for n in ours if not torch.equal(ours[n], theirs[n])]


@pytest.mark.parametrize(
    ("stage", "adapters", "schedule"),
    [
        ("1", False, {"accumulation": 2, "ema_decay": 0.9}),
        ("1", True, {"accumulation": 4, "bf16": True}),
        ("joint", False, {"checkpointing": True, "workers": 1}),
    ],
)
def test_kill_9_leaves_no_trace_in_one_process(job, tmp_path, stage, adapters, schedule):
    job = replace(job, stage=stage, adapters=adapters, schedule=schedule)
    whole = undisturbed(job, tmp_path / "whole")
    parts = replace(job, out=tmp_path / "parts")
    for length in (1, 5):  # killed from outside in the second step, and in the fifth or so
        kill_when(start(parts), lambda length=length: len(lines(parts)) >= length)
    assert finish(start(parts)) == [0]
    assert_same_end(parts, whole)


@pytest.mark.parametrize("moment", ["writing 3", "moving 2", "writing 0"])
def test_kill_9_while_a_state_is_written(job, tmp_path, moment):
    whole = undisturbed(job, tmp_path / "whole")
    parts = replace(job, out=tmp_path / "parts")
    assert finish(start(replace(parts, dies=moment))) == [-signal.SIGKILL]
    assert (parts.out / "stage-1.unfinished").exists()
    assert finish(start(parts)) == [0]
    assert_same_end(parts, whole)
    assert [p.name for p in parts.out.iterdir() if p.is_dir()] == ["stage-1.step-000006"]


def test_kill_9_of_two_processes(job, tmp_path):
    job = replace(job, schedule={"accumulation": 2, "ema_decay": 0.9})
    whole = undisturbed(job, tmp_path / "whole", world=2)
    parts = replace(job, out=tmp_path / "parts")
    for length in (2, 5):
        kill_when(start(parts, 2), lambda length=length: len(lines(parts)) >= length)
    assert -signal.SIGKILL in finish(start(replace(parts, dies="writing 5"), 2))
    assert finish(start(parts, 2)) == [0, 0]
    assert_same_end(parts, whole)


@pytest.mark.parametrize("stage", ["1", "2", "joint"])
def test_two_processes_see_what_one_sees(job, tmp_path, stage):
    """The same samples in the same batches, and every mean over the whole batch, whoever holds its parts."""
    alone = undisturbed(replace(job, stage=stage), tmp_path / "alone")
    job = replace(job, stage=stage, schedule={"accumulation": 2})
    parted = undisturbed(job, tmp_path / "parted")
    together = undisturbed(job, tmp_path / "together", world=2)
    assert len(losses(alone)) == 6
    for other in (parted, together):
        assert losses(other) == pytest.approx(losses(alone), abs=3e-4)
        for ours, theirs in zip(lines(other), lines(alone), strict=True):
            assert ours.keys() == theirs.keys()
        ours, theirs = (load_file(j.out / "final.safetensors") for j in (other, alone))
        for name, value in theirs.items():
            assert torch.allclose(ours[name], value, atol=2e-3), name


def test_a_run_goes_on_with_another_number_of_processes(job, tmp_path):
    alone = undisturbed(job, tmp_path / "alone")
    moved = replace(job, out=tmp_path / "moved")
    kill_when(start(moved, 2), lambda: len(lines(moved)) >= 2)
    assert finish(start(moved)) == [0]
    assert losses(moved) == pytest.approx(losses(alone), abs=3e-4)

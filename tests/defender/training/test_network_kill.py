"""`legion train network` at the command line: kill -9, the same command again, and the same weights."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from defender import checkpoint
from defender.model import Legion
from defender.synthscars import export

pytestmark = pytest.mark.slow

STEPS = 12
SETTINGS = f"""
[schedule]
steps = {STEPS}
batch_size = 4
learning_rate = 3e-3
bf16 = false
log_every = 1
save_every = 0.0
validate_every = 5
"""
PATIENCE = 900


@pytest.fixture(scope="module")
def place(dialog, tmp_path_factory):
    """A folder with a checkpoint to start from and settings."""
    folder = tmp_path_factory.mktemp("place")
    torch.manual_seed(0)
    checkpoint.save(folder / "start", Legion(dialog.config), dialog.tokenizer)
    (folder / "settings.toml").write_text(SETTINGS)
    return folder


@pytest.fixture
def command(place, samples, tmp_path):
    """The words of the command, but for where everything goes."""
    export([s for s in samples if s.findings] * 2, tmp_path / "data", "train")
    words = ["train", "network", tmp_path / "data", "--from", place / "start", "--json"]
    return [sys.executable, "-m", "flows.cli", *words, "--config", place / "settings.toml", "--out"]


def begin(command, out, world):
    """The processes of one training, each in a session of its own as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    usual = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    ranks = []
    for rank in range(world):
        there = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
        there |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        several = {name: str(value) for name, value in there.items()} if world > 1 else {}
        ranks.append(
            subprocess.Popen(
                [*map(str, command), str(out)],
                env=usual | several,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return ranks


def finished(ranks):
    """What the main process said, once all have ended well."""
    said = [rank.communicate(timeout=PATIENCE) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * len(ranks), said
    return json.loads(said[0][0])


def log(out):
    path = out / "stage-1.jsonl"
    texts = path.read_text().splitlines() if path.exists() else []
    lines = [json.loads(text) for text in texts if text.endswith("}")]
    return [{k: v for k, v in line.items() if k not in ("seconds", "per_second")} for line in lines]


def killed_after(ranks, out, length):
    """kill -9 of all processes when the log is that long; whatever they were at."""
    deadline = time.monotonic() + PATIENCE
    while len(log(out)) < length and all(r.poll() is None for r in ranks) and time.monotonic() < deadline:
        time.sleep(0.005)
    for rank in ranks:
        rank.kill()
    said = [rank.communicate() for rank in ranks]
    assert {rank.returncode for rank in ranks} == {-signal.SIGKILL}, said


@pytest.mark.parametrize("world", [1, 2])
def test_kill_9_and_the_same_command_again(command, tmp_path, world):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert finished(begin(command, whole, world))["step"] == STEPS
    killed_after(begin(command, parts, world), parts, 3)
    assert not (parts / "last").exists()
    facts = finished(begin(command, parts, world))
    assert facts["finished"] and facts["step"] == STEPS
    assert log(parts) == log(whole) and len(log(whole)) == STEPS + 3  # three of them validations
    for folder in ("best", "last"):
        ours, theirs = (load_file(out / folder / checkpoint.WEIGHTS) for out in (parts, whole))
        assert not [name for name, value in theirs.items() if not torch.equal(ours[name], value)]
        assert (parts / folder / "config.json").read_text() == (whole / folder / "config.json").read_text()

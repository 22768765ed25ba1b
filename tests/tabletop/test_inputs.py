"""What one model makes for another's training is kept under the name of the weights that made it."""

import argparse
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tabletop import inputs, paintings


def weights(folder, value):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    save_file({"w": torch.full((2,), float(value))}, path)
    os.utime(path, (value, value))  # two files of one size, written within a tick of the clock


def test_a_fingerprint_is_of_the_weights_and_of_nothing_else(tmp_path):
    weights(tmp_path / "one", 1)
    weights(tmp_path / "two", 1)
    (tmp_path / "two" / "README.md").write_text("other words")
    first = inputs.fingerprint(tmp_path / "one")
    assert first == inputs.fingerprint(tmp_path / "two") and len(first) == 8
    weights(tmp_path / "two", 2)
    assert first != inputs.fingerprint(tmp_path / "two")


@pytest.mark.parametrize("value", [1, 2])
def test_another_generator_paints_anew(tmp_path, monkeypatch, value):
    args = argparse.Namespace(build=tmp_path / "build", weights=tmp_path / "weights", device="cpu")
    (args.build / "generator").mkdir(parents=True)
    weights(args.weights / "generator", 1)
    painted = []

    def paint(folder, scenes, asked, seed, device):
        painted.append(seed)
        return np.full((2, 4, 4, 3), len(painted), np.uint8)

    monkeypatch.setattr(inputs, "PAINTED", 2)
    monkeypatch.setattr(paintings, "paint", paint)
    inputs._painted(args, "train", 71, 0.5)
    weights(args.weights / "generator", value)
    pictures, scenes, asked = inputs._painted(args, "train", 71, 0.5)
    assert len(painted) == value and pictures[0, 0, 0, 0] == value and len(scenes) == len(asked) == 2


def test_the_share_of_all_modifiers_is_as_asked_and_part_of_the_files_name(tmp_path, monkeypatch):
    args = argparse.Namespace(build=tmp_path / "build", weights=tmp_path / "weights", device="cpu")
    (args.build / "generator").mkdir(parents=True)
    weights(args.weights / "generator", 1)
    monkeypatch.setattr(inputs, "PAINTED", 200)
    monkeypatch.setattr(
        paintings, "paint", lambda folder, scenes, *_: np.zeros((len(scenes), 4, 4, 3), np.uint8)
    )
    for share in (0.5, 0.8):
        _, _, asked = inputs._painted(args, "train", 71, share)
        # An eighth of the others draws all three by chance.
        assert abs(np.mean([len(words) == 3 for words in asked]) - (share + (1 - share) / 8)) < 0.1
    assert len(list((args.build / "generator").glob("*.npy"))) == 2

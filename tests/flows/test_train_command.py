"""`legion train network` on the embedded world: both stages, both at once, and words that do not fit."""

import json
from pathlib import Path

import pytest
import torch

from defender import checkpoint
from flows.cli import main
from flows.profiles.loading import load_profile


def run(capsys, *words):
    code = main(["train", "network", *map(str, words), "--json"])
    streams = capsys.readouterr()
    return code, json.loads(streams.out) if streams.out else None, streams.err


@pytest.mark.slow
def test_two_stages_and_one_that_does_both(tmp_path, capsys):
    """Which parts each stage moved; stage 2 begins where stage 1 ended."""
    bundled = Path(load_profile("tabletop").defender.path)
    settings = tmp_path / "short.toml"
    settings.write_text('trainable = "all"\n[validation]\nshare = 0.2\n')
    begun = {"1": bundled, "2": tmp_path / "1" / "last", "joint": bundled}
    moved = {}
    for stage, start in begun.items():
        words = ["--format", "tabletop", "--scenes", 5, "--stage", stage, "--from", start, "--steps", 2]
        words += ["--config", settings, "--batch-size", 8, "--out", tmp_path / stage]
        code, said, told = run(capsys, *words)
        assert code == 0, told
        assert (said["finished"], said["samples"], said["held_out"], said["broken"]) == (True, 16, 4, 0)
        before, after = (
            checkpoint.load(place).model.state_dict() for place in (start, tmp_path / stage / "last")
        )
        changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
        moved[stage] = {
            part: any(part in name for name in changed) for part in ("prediction_head", "lm_head")
        }
    assert moved == {
        "1": {"prediction_head": False, "lm_head": True},
        "2": {"prediction_head": True, "lm_head": False},
        "joint": {"prediction_head": True, "lm_head": True},
    }
    asked = json.loads((tmp_path / "2" / "settings.json").read_text())["source"]
    assert asked == {"root": None, "format": "tabletop", "split": "train", "clean": None}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["here", "--format", "tabletop"], "renders its pictures itself: leave here away"),
        ([], "no DATASET is given"),
        (["nowhere"], "nowhere does not exist"),
        ([".", "--scenes", "3"], "--scenes is for --format tabletop"),
        (["--format", "tabletop", "--scenes", "0"], "0 scenes of 'train'"),
        (["--format", "tabletop", "--split", "tset"], "no split 'tset'"),
        (["--format", "tabletop", "--stage", "3"], "stage"),
        ([".", "--format", "huh"], "no data set called huh"),
    ],
)
def test_words_that_do_not_fit_are_one_line(tmp_path, capsys, words, told):
    code, said, error = run(capsys, *words, "--out", tmp_path / "out")
    assert (code, said) == (1, None) and told in error and error.count("\n") == 1

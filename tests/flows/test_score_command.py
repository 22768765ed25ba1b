"""`legion score`: scripted scorers for its words and tables, small checkpoints for the way through."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from flow_samples import ScriptedGenerator, ScriptedScorer, picture
from PIL import Image as Pillow

from contracts.errors import InvalidInput
from contracts.records import Score
from flows.cli import main
from flows.commands.score import chosen_scorers, prompt_per_image
from flows.profiles.loading import load_profile

PROFILE = load_profile("tabletop")


class Brightness(ScriptedScorer):
    """Brighter is better; remembers the prompts."""

    def __init__(self, name: str) -> None:
        super().__init__(ScriptedGenerator(), name)
        self.prompts: list[str] = []

    def score(self, images, prompts):
        self.prompts += prompts
        return [Score(self.name, f"{self.name}; v=1", float(image.mean()) / 255) for image in images]

    def describe(self):
        return {"name": self.name, "version": f"{self.name}; v=1"}


@pytest.fixture
def made(scripted) -> list[tuple]:
    """What `assemble.scorer` was asked for, with the scorers it gave."""
    given: list[tuple] = []

    def scorer(section, profile, device):
        given.append((section, device, Brightness(section.name)))
        return given[-1][2]

    sys.modules["flows.assemble"].scorer = scorer  # type: ignore[attr-defined]
    return given


@pytest.fixture
def files(scripted, tmp_path) -> list[str]:
    for index in (1, 2, 3):
        Pillow.fromarray(np.full((8, 8, 3), 60 * index, np.uint8)).save(tmp_path / f"{index}.png")
    return ["1.png", "2.png", "3.png"]


def test_json_has_a_score_of_every_scorer_for_every_picture(made, files, capsys) -> None:
    assert main(["score", *files, "--prompt", "  a red cone ", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    said = json.loads(out)
    assert [item["image"] for item in said["images"]] == files
    assert {item["prompt"] for item in said["images"]} == {"a red cone"}
    assert said["images"][1]["scores"] == {"preference": 120 / 255, "reporter": 120 / 255}
    assert said["scorers"]["reporter"] == {"name": "reporter", "version": "reporter; v=1"}
    assert [section.name for section, _, _ in made] == ["preference", "reporter"]
    assert made[0][1] == "cpu" and made[0][2].prompts == ["a red cone"] * 3


def test_the_table_names_pictures_scores_and_versions(made, files, capsys) -> None:
    assert main(["score", *files, "--prompt", "a red cone", "--scorer", "reporter", "--device", "cuda"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["image", "reporter"]
    assert [line.split() for line in lines[1:4]] == [
        ["1.png", "0.2353"],
        ["2.png", "0.4706"],
        ["3.png", "0.7059"],
    ]
    assert lines[-1] == "reporter: reporter; v=1"
    assert made[0][1] == "cuda"


def test_a_prompt_for_each_picture_goes_with_its_own(made, files) -> None:
    assert main(["score", *files, "--prompt", "one", "--prompt", "two", "--prompt", "three"]) == 0
    assert made[0][2].prompts == ["one", "two", "three"]


def test_many_pictures_are_not_in_memory_at_once(made, files, monkeypatch, capsys) -> None:
    from flows.commands import score

    monkeypatch.setattr(score, "TOGETHER", 2)
    calls: list[int] = []
    honest = Brightness.score
    monkeypatch.setattr(
        Brightness, "score", lambda self, images, p: (calls.append(len(images)), honest(self, images, p))[1]
    )
    assert main(["score", *files, "--prompt", "x", "--scorer", "reporter", "--json"]) == 0
    assert calls == [2, 1]
    values = [item["scores"]["reporter"] for item in json.loads(capsys.readouterr().out)["images"]]
    assert values == [60 / 255, 120 / 255, 180 / 255]


def test_a_scorer_is_given_by_kind_path_and_options(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    one, other = chosen_scorers(
        ["hpsv2=a/HPS.pt,antialias=false,dtype=bfloat16,batch_size=8,name=old", "artifact-area"], PROFILE
    )
    assert (one.kind, one.name, one.path) == ("hpsv2", "old", str(tmp_path / "a" / "HPS.pt"))
    assert (one.antialias, one.dtype, one.batch_size) == (False, "bfloat16", 8)
    assert (other.kind, other.name, other.path) == ("artifact-area", "artifact-area", "")


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["preferense"], "no scorer 'preferense': did you mean 'preference'"),
        (["qqq"], "the profile has preference, reporter"),
        (["hps=x.pt"], "--scorer hps=x.pt: 'kind': input should be 'clip'"),
        (["hpsv2="], "path is missing"),
        (["hpsv2=x.pt,antialais=false"], "unknown key 'antialais'"),
        (["hpsv2=x.pt,antialias=maybe"], "'antialias': input should be a valid boolean"),
        (["imagereward=x.pt,antialias=false"], "antialias is no key of a scorer of kind imagereward"),
        (["hpsv2=x.pt,min_confidence=0.5"], "min_confidence is no key of a scorer of kind hpsv2"),
        (["artifact-area=x.pt"], "path is no key of a scorer of kind artifact-area"),
        (["artifact-area,min_confidence=2"], "'min_confidence': input should be less than or equal to 1"),
        (["hpsv2=a.pt", "hpsv2=b.pt"], "two scorers are called 'hpsv2'"),
    ],
)
def test_a_scorer_that_cannot_be_meant_is_refused_in_one_line(specs, message) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        chosen_scorers(specs, PROFILE)
    assert "\n" not in str(caught.value)


def test_prompts_come_out_even() -> None:
    both = [PROFILE.selection_scorer, *chosen_scorers(["artifact-area"], PROFILE)]
    assert prompt_per_image(["a cone"], 2, both) == ["a cone"] * 2
    assert prompt_per_image([], 2, both[1:]) == ["", ""]
    with pytest.raises(InvalidInput, match="no prompt: 'preference' judges a picture by its prompt"):
        prompt_per_image([], 2, both)
    with pytest.raises(InvalidInput, match="2 prompts for 3 images"):
        prompt_per_image(["a", "b"], 3, both)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.png", "--prompt", "x"], "nowhere.png does not exist"),
        (["1.png", "--prompt", " "], "prompt"),
        (["1.png"], "no prompt"),
        (["--prompt", "x"], "IMAGE"),
    ],
)
def test_wrong_calls_end_in_one_line_before_anything_loads(made, files, capsys, words, said) -> None:
    assert main(["score", *words]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert said in captured.err and not made


@pytest.mark.slow
def test_small_checkpoints_of_the_published_kinds_score_from_the_command_line(
    tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parent.parent / "controller")
    from tiny_scorers import save_hps, save_imagereward

    save_hps(tmp_path / "hps")
    save_imagereward(tmp_path / "ir")
    Pillow.fromarray(picture(3)).save(tmp_path / "cone.png")
    monkeypatch.chdir(tmp_path)
    words = [
        "score", "cone.png", "--prompt", "a red cone on a wooden table", "--json",
        "--scorer", "preference",
        "--scorer", "hpsv2=hps/HPS_v2.1_compressed.pt",
        "--scorer", "hpsv2=hps/HPS_v2.1_compressed.pt,antialias=false,name=old",
        "--scorer", "imagereward=ir/ImageReward.pt,dtype=bfloat16",
        "--scorer", "artifact-area",
    ]  # fmt: skip
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    scores = said["images"][0]["scores"]
    assert list(scores) == ["preference", "hpsv2", "old", "imagereward", "artifact-area"]
    assert 0 <= scores["artifact-area"] <= 1 and -1 <= scores["hpsv2"] <= 1
    versions = {name: described["version"] for name, described in said["scorers"].items()}
    assert len(set(versions.values())) == 5
    assert versions["old"].startswith("hpsv2 v2.1; weights=") and "antialias=false" in versions["old"]
    assert versions["imagereward"].endswith("dtype=bfloat16")


@pytest.mark.slow
def test_a_checkpoint_that_is_missing_is_one_line(tmp_path, monkeypatch, capsys) -> None:
    Pillow.fromarray(picture(3)).save(tmp_path / "cone.png")
    monkeypatch.chdir(tmp_path)
    assert main(["score", "cone.png", "--prompt", "x", "--scorer", "hpsv2=HPS_v2.1_compressed.pt"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: the file of weights ") and "docs/scorers.md" in err
    assert err.count("\n") == 1

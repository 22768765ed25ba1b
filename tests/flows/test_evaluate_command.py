"""`legion evaluate`, `legion calibrate` and `legion tabletop` from end to end, with a scripted defender."""

from __future__ import annotations

import json
import sys
import types
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import flows
from contracts.errors import CheckpointError, ModelError
from contracts.records import Diagnosis, Finding
from defender.checkpoint import Thresholds, save_thresholds
from defender.datasets import Sample
from defender.synthscars import export
from flows.cli import main

TOP = np.zeros((20, 20), bool)
TOP[:10] = True


def top_half_of(image) -> Finding:
    mask = np.zeros(image.shape[:2], bool)
    mask[: len(mask) // 2] = True
    return Finding(mask, "the red cone", "it floats", "physics", 1.0)


class TopHalf:
    """Says that the upper half of every picture that is not black floats, and that half of all are real."""

    name = "top-half"
    alarm = "artifact_probability"
    thresholds = Thresholds(min_area=0.125)

    def __init__(self) -> None:
        self.asked = 0
        self.patience = 10**9

    def diagnose(self, images):
        self.asked += len(images)
        if self.asked > self.patience:
            raise KeyboardInterrupt
        return [Diagnosis((top_half_of(image),) if image.any() else (), 0.75, "") for image in images]

    def with_thresholds(self, thresholds):
        other = copy(self)
        other.thresholds = thresholds
        return other

    def at(self, **limits):
        return self.with_thresholds(replace(self.thresholds, **limits))

    def inclinations(self, images):
        return np.array([float(image.any()) for image in images]), None

    def describe(self):
        return {"name": self.name}


@pytest.fixture
def defender(tmp_path, monkeypatch):
    made = TopHalf()
    module = types.ModuleType("flows.assemble")
    module.defender = module.legion = lambda profile, **changes: made
    module.defender_folder = lambda profile, given: (
        given or Path(flows.__file__).parents[1] / "tabletop/weights/x"
    )
    module.save_thresholds = save_thresholds
    monkeypatch.setitem(sys.modules, "flows.assemble", module)
    monkeypatch.setattr(flows, "assemble", module, raising=False)
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def scars(tmp_path):
    """Forty pictures, flawed and clean by turns; clean ones are black."""
    finding = Finding(TOP, "the red cone", "it floats", "physics", 1.0)
    samples = [
        Sample(np.full((20, 20, 3), 200 * (i % 2), np.uint8), (finding,) if i % 2 else ()) for i in range(40)
    ]
    export(samples, tmp_path / "scars", "test")
    return str(tmp_path / "scars")


def run_json(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def values(result: dict) -> dict[str, float]:
    return {figure["figure"]: figure["value"] for figure in result["figures"]}


def test_a_perfect_defender_is_called_perfect(defender, scars, capsys) -> None:
    result = run_json(capsys, "evaluate", "localization", scars, "--format", "synthscars")
    assert values(result)["mIoU"] == values(result)["F1"] == 1.0
    assert values(result)["false alarms"] == 0.0
    assert result["reported"] == []
    table = Path(result["files"]["markdown"]).read_text()
    assert "| F1 | 100.0 [100.0, 100.0] | 20 |" in table and "averaged over the pictures" in table
    assert json.loads(Path(result["files"]["json"]).read_text())["figures"] == result["figures"]
    assert len(Path(result["files"]["pictures"]).read_text().splitlines()) == 41


def test_people_get_a_table_and_where_it_is(defender, scars, capsys, tmp_path) -> None:
    words = ["evaluate", "localization", scars, "--format", "synthscars", "--markdown", "deep/table.md"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "│ F1 " in out and "markdown: deep/table.md" in out
    assert (tmp_path / "deep" / "table.md").exists()


def test_broken_pictures_are_counted_and_named(defender, scars, capsys) -> None:
    (Path(scars) / "test" / "images" / "000003.png").write_bytes(b"not a picture")
    assert main(["evaluate", "localization", scars, "--format", "synthscars"]) == 0
    captured = capsys.readouterr()
    assert "Unreadable, and not replaced by others: 1 picture." in captured.out
    assert "000003.png" in captured.err
    assert defender.asked == 39


def test_ctrl_c_keeps_what_was_measured_and_the_same_command_goes_on(defender, scars, capsys) -> None:
    words = ["evaluate", "localization", scars, "--format", "synthscars"]
    defender.patience = 20
    assert main(words) == 130
    err = capsys.readouterr().err
    assert "16 of 40" in err and "legion evaluate localization" in err
    defender.asked, defender.patience = 0, 10**9
    result = run_json(capsys, *words)
    assert defender.asked == 24 and values(result)["F1"] == 1.0
    assert values(run_json(capsys, *words)) == values(result) and defender.asked == 24 + 40


def test_limit_takes_as_many(defender, scars, capsys) -> None:
    result = run_json(capsys, "evaluate", "localization", scars, "--format", "synthscars", "--limit", "8")
    assert defender.asked == 8 and result["pictures"] == 8 and result["of"] == 40


def test_explanations_need_no_sentence_model(defender, scars, capsys, monkeypatch) -> None:
    monkeypatch.setattr("defender.evaluation.embedding.PACKAGED", "no_such_package")
    words = ["evaluate", "explanation", scars, "--format", "synthscars"]
    assert values(run_json(capsys, *words))["ROUGE-L"] == 1.0
    assert main(words) == 0
    assert "CSS is not computed: install one with pip install" in capsys.readouterr().out


def test_detection_of_a_plain_folder_needs_its_label(defender, scars, capsys) -> None:
    folder = str(Path(scars) / "test" / "images")
    assert main(["evaluate", "detection", folder, "--format", "plain"]) == 1
    assert "has a label that says real or generated" in capsys.readouterr().err
    words = ["evaluate", "detection", folder, "--format", "plain", "--label", "generated"]
    assert values(run_json(capsys, *words))["accuracy"] == 1.0
    words = ["evaluate", "localization", folder, "--format", "plain", "--label", "real"]
    assert values(run_json(capsys, *words)) == {"false alarms": 0.5}


def test_robustness_shows_every_setting(defender, scars, capsys) -> None:
    result = run_json(capsys, "evaluate", "robustness", scars, "--format", "synthscars", "--limit", "8")
    assert {figure["group"] for figure in result["figures"]} >= {
        "none",
        "JPEG 20",
        "noise 0.3",
        "blur 15",
        "worst",
    }
    table = Path(result["files"]["markdown"]).read_text()
    (lost,) = [row for row in result["figures"] if (row["group"], row["figure"]) == ("worst", "F1 lost")]
    assert f"which costs {100 * lost['value']:.1f} points of F1 [" in table and "| JPEG 50 | " in table


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("evaluate", "localization", "--format", "synthscars"), "needs the folder"),
        (("evaluate", "localization", "nowhere", "--format", "tabletop"), "leave nowhere away"),
        (("evaluate", "localization", "nowhere", "--format", "synthscars"), "nowhere"),
        (("evaluate", "localization", "nowhere", "--format", "imagenet"), "imagenet"),
        (("evaluate", "localization", "--format", "tabletop", "--limit", "0"), "--limit is 0"),
        (("evaluate", "localization", "--format", "tabletop", "--label", "real"), "--label is for"),
        (("evaluate", "localization", "--format", "tabletop", "--split", "tset"), "no split 'tset'"),
        (("evaluate", "--format", "tabletop"), "TASK"),
        (("calibrate", "--format", "tabletop"), "--out DIR calibrates a copy"),
    ],
)
def test_wrong_words_are_answered_in_one_line(defender, capsys, words, said) -> None:
    assert main(list(words)) == 1
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and "unexpected" not in err


def test_calibration_writes_into_a_checkpoint_of_ones_own(defender, scars, capsys, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    words = ["calibrate", scars, "--format", "synthscars", "--split", "test", "--checkpoint", "mine"]
    result = run_json(capsys, *words, "--false-alarms", "0")
    written = Thresholds.from_json((tmp_path / "mine" / "thresholds.json").read_text())
    assert written.artifact_probability == pytest.approx(1e-4) and written.min_area == 0.125
    assert (
        result["after"]["false alarms"] == 0.0 and result["after"]["flawed pictures given a finding"] == 1.0
    )


def test_a_checkpoint_is_told_which_noise_to_take_out(defender, scars, capsys, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    words = ["calibrate", scars, "--format", "synthscars", "--split", "test", "--checkpoint", "mine"]
    assert run_json(capsys, *words, "--max-noise", "0.05")["thresholds"]["max_noise"] == 0.05
    written = Thresholds.from_json((tmp_path / "mine" / "thresholds.json").read_text())
    assert written.max_noise == 0.05 and written.min_area == 0.125
    assert main([*words, "--max-noise", "2"]) == 1
    assert "--max-noise 2.0 cannot be used: choose 0 to 1" in capsys.readouterr().err


def test_calibration_of_a_copy_leaves_the_original_alone(defender, scars, capsys, tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text("{}")
    words = ["calibrate", scars, "--format", "synthscars", "--split", "test", "--checkpoint", "mine"]
    assert main([*words, "--out", "copy"]) == 0
    assert f"calibrated: {tmp_path / 'copy'}" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == ["config.json", "thresholds.json"]
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["config.json"]
    assert main([*words, "--out", "copy"]) == 1
    assert "copy exists already" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_line(defender, scars, capsys, tmp_path, monkeypatch) -> None:
    def refuse(folder, thresholds):
        raise CheckpointError("cannot write to it")

    monkeypatch.setattr(flows.assemble, "save_thresholds", refuse)
    (tmp_path / "mine").mkdir()
    words = ["calibrate", scars, "--format", "synthscars", "--split", "test", "--checkpoint", "mine"]
    assert main(words) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: cannot write to it"


@pytest.mark.slow
def test_export_writes_what_evaluate_reads(defender, capsys) -> None:
    words = ["tabletop", "export", "--format", "synthscars", "world", "--scenes", "2"]
    assert run_json(capsys, *words) == {"folder": "world/test", "pictures": 2}
    assert main(words) == 1
    assert "exists already" in capsys.readouterr().err
    assert main([*words[:-1], "0"]) == 1
    with_clean = run_json(capsys, *words[:-2], "--with-clean", "--scenes", "1", "--split", "validation")
    assert with_clean["pictures"] == 2


@pytest.mark.parametrize(
    ("format_", "split", "limit", "named"),
    [
        ("synthscars", "test", None, "synthscars"),
        ("synthscars", "test", 999, ""),
        ("synthscars", "test", 2000, "synthscars"),
        ("synthscars", "train", None, ""),
        ("richhf", "train", None, ""),
        ("plain", "test", None, ""),
        ("folders", "test", None, ""),
    ],
)
def test_a_part_of_a_data_set_is_not_the_papers(format_, split, limit, named) -> None:
    from flows.jobs.evaluating import Request, _reported

    assert _reported(Request(format_, Path("."), split, limit), range(1000)) == named


def test_loki_without_regions_is_not_known_to_be_clean(defender, tmp_path, capsys) -> None:
    """Its abnormalities may be told of the picture as a whole, so a finding in it is no false alarm."""
    from PIL import Image

    regional = {"regional": [{"region": [0, 0, 20, 9], "desc": "it floats"}]}
    rows = [{"image_path": f"{i}.png", "problems": {} if i % 2 else regional} for i in range(4)]
    (tmp_path / "loki").mkdir()
    (tmp_path / "loki" / "loki.json").write_text(json.dumps(rows))
    for i in range(4):
        Image.new("RGB", (20, 20), "white").save(tmp_path / "loki" / f"{i}.png")
    result = run_json(capsys, "evaluate", "localization", str(tmp_path / "loki"), "--format", "loki")
    assert "false alarms" not in values(result)
    assert result["left_out"] == 2 and values(result)["mIoU"] == 1.0


def test_tiles_are_calibrated_on_pictures_that_can_be_cut(defender, scars, capsys, tmp_path) -> None:
    words = ["calibrate", "--format", "synthscars", "--split", "test", "--checkpoint", "mine", "--tiles", "2"]
    (tmp_path / "mine").mkdir()
    assert main([*words, scars]) == 1
    assert "0 pictures known to be free of artifacts are large enough" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())
    large = [np.full((130, 130, 3), 200 * (i % 2), np.uint8) for i in range(40)]
    samples = [Sample(image, (top_half_of(image),) if image.any() else ()) for image in large]
    export(samples, tmp_path / "large", "test")
    result = run_json(capsys, *words, str(tmp_path / "large"))
    written = Thresholds.from_json((tmp_path / "mine" / "thresholds.json").read_text())
    assert written.tile_confidence == result["thresholds"]["tile_confidence"] == pytest.approx(1e-4)
    assert result["after"]["false alarms with tiles"] == 0.0
    assert result["after"]["flawed pictures given a finding with tiles"] == 1.0


def test_options_of_the_defender_reach_it(defender, scars, capsys, monkeypatch) -> None:
    asked: list[dict] = []

    def load(profile, **changes):
        asked.append(changes)
        return defender

    monkeypatch.setattr(flows.assemble, "defender", load)
    monkeypatch.setattr(flows.assemble, "legion", load)
    options = ["--dtype", "bfloat16", "--4bit", "--batch-size", "3", "--device", "cuda:1"]
    given = {"dtype": "bfloat16", "four_bit": True, "batch_size": 3, "device": "cuda:1"}
    words = ["evaluate", "localization", scars, "--format", "synthscars", *options]
    run_json(capsys, *words, "--tiles", "2", "--tile-confidence", "0.5")
    assert asked.pop() == {**given, "tiles": 2, "tile_confidence": 0.5}
    assert main(["calibrate", scars, "--format", "synthscars", "--checkpoint", "x", *options]) in (0, 1)
    assert main(["evaluate", "detection", scars, "--format", "synthscars", "--tiles"]) == 1


def test_a_picture_on_which_the_defender_fails_costs_no_others(defender, scars, capsys, monkeypatch) -> None:
    usual, seen = defender.diagnose, []

    def diagnose(images):
        seen.append(len(images))
        if any(image[0, 0, 0] == 7 for image in images):
            raise ModelError("it failed\nbadly")
        return usual(images)

    from PIL import Image

    Image.new("RGB", (20, 20), (7, 7, 7)).save(f"{scars}/test/images/000003.png")
    monkeypatch.setattr(defender, "diagnose", diagnose)
    result = run_json(capsys, "evaluate", "localization", scars, "--format", "synthscars")
    assert result["unreadable"] == [{"picture": "000003", "reason": "000003: it failed badly"}]
    assert sum(seen) - 16 - 1 == 40 - 1
    assert values(result)["mIoU"] == 1.0

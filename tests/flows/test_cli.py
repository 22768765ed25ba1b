"""The command line from end to end, with scripted tools."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flow_samples import picture
from PIL import Image as Pillow

from contracts.errors import ModelError
from controller.regeneration import RegenerationSettings, run_settings
from flows.cli import main
from flows.commands.running import resume_command
from flows.profiles.loading import load_profile

PLAIN = ["--no-prefect", "--seed", "7"]


def run_json(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    return json.loads(out)


def test_regenerate_prints_the_one_object_of_its_contract(scripted, capsys) -> None:
    (run,) = run_json(capsys, "regenerate", "a red cone", *PLAIN)["runs"]
    assert set(run) == {"run_id", "prompt", "rounds", "best", "report", "record", "costs"}
    assert run["prompt"] == "a red cone"
    assert [item["index"] for item in run["rounds"]] == [1, 2, 3]
    first = run["rounds"][0]
    assert set(first) == {
        "index", "prompt", "seed", "image", "marked", "findings", "scores", "accepted", "reason",
        "revision", "review", "seconds",
    }  # fmt: skip
    assert set(first["findings"][0]) == {"box", "mask", "phrase", "explanation", "category", "confidence"}
    assert set(first["scores"]) == {"preference", "reporter"}
    assert first["accepted"] is True and first["seconds"] >= 0 and first["review"] is None
    assert set(first["revision"]) == {"prompt", "addressed", "reason", "usage", "answers"}
    assert first["revision"]["prompt"] == run["rounds"][1]["prompt"]
    assert set(run["best"]) == {"round", "image"}
    assert json.loads(Path(run["record"]).read_text())["run"] == run["run_id"]
    assert set(run["costs"][0]) == {
        "part", "model", "digest", "calls", "input_tokens", "output_tokens", "usd", "seconds",
    }  # fmt: skip
    assert Path(run["report"]).read_text().startswith("<!doctype html>")


def test_files_named_in_the_json_hold_what_was_painted(scripted, capsys) -> None:
    (run,) = run_json(capsys, "regenerate", "a red cone", *PLAIN)["runs"]
    first = run["rounds"][0]
    assert np.array_equal(np.asarray(Pillow.open(first["image"])), picture(first["seed"]))
    mask = np.asarray(Pillow.open(first["findings"][0]["mask"]))
    left, top, right, bottom = first["findings"][0]["box"]
    assert set(np.unique(mask)) == {0, 255}
    assert mask[top:bottom, left:right].sum() == mask.sum() > 0


def test_the_last_line_names_the_report(scripted, capsys) -> None:
    assert main(["regenerate", "a red cone on a wooden table", *PLAIN]) == 0
    captured = capsys.readouterr()
    last = captured.out.rstrip("\n").split("\n")[-1]
    assert last.startswith("report: ") and Path(last.removeprefix("report: ")).is_file()
    assert "natural shadow" in captured.out and "best" in captured.out
    assert "paint · round 1 · 1 picture" in captured.err


def test_a_prompt_has_the_same_pictures_alone_and_in_a_batch(scripted, capsys) -> None:
    alone = run_json(capsys, "regenerate", "a red cone", *PLAIN)["runs"][0]
    batch = run_json(capsys, "regenerate", "a blue ball", "a red cone", *PLAIN)["runs"][1]
    for one, other in zip(alone["rounds"], batch["rounds"], strict=True):
        # The files' notes differ: they name the run.
        assert np.array_equal(*(np.asarray(Pillow.open(r["image"])) for r in (one, other)))


def test_a_batch_shares_one_report_and_derives_its_ids(scripted, capsys, tmp_path) -> None:
    words = ["regenerate", "a red cone", "a blue ball", "--run-id", "two", "--out", str(tmp_path / "here")]
    runs = run_json(capsys, *words, *PLAIN)["runs"]
    assert [run["run_id"] for run in runs] == ["two-1", "two-2"]
    assert {run["report"] for run in runs} == {str(tmp_path / "here" / "report.html")}
    assert Path(runs[1]["best"]["image"]).parent == tmp_path / "here" / "two-2"


def test_prompts_come_from_a_file_too(scripted, capsys, tmp_path) -> None:
    (tmp_path / "list.txt").write_text("\ufeffa red cone\n\n# not this\na blue ball\n", encoding="utf-8")
    runs = run_json(capsys, "regenerate", "a cone", "--prompts", str(tmp_path / "list.txt"), *PLAIN)["runs"]
    assert [run["prompt"] for run in runs] == ["a cone", "a red cone", "a blue ball"]


def test_unknown_words_are_named_and_do_no_harm(scripted, capsys) -> None:
    assert main(["regenerate", "a red zorp 🎈 円錐 [bold]", "--rounds", "1", *PLAIN]) == 0
    captured = capsys.readouterr()
    assert "note: 'zorp', '🎈', '円錐' and '[bold]' are words the model does not know" in captured.err
    assert "[bold]" in captured.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["regenerate"], "no prompt"),
        (["regenerate", ""], "prompt is empty"),
        (["regenerate", " \t\n "], "prompt is empty"),
        (["regenerate", "a cone", "  "], "prompt 2 of 2"),
        (["regenerate", "word " * 1000], "shorten it"),
        (["regenerate", "a \udcff cone"], "UTF-8"),
        (["regenerate", "x", "--rounds", "0"], "--rounds is 0"),
        (["regenerate", "x", "--rounds", "-2"], "--rounds is -2"),
        (["regenerate", "x", "--rounds", "two"], "--rounds is two: choose a whole number"),
        (["regenerate", "x", "--rounds", "1.5"], "--rounds is 1.5: choose a whole number"),
        (["benchmark", "--limit", "2"], "2 was not expected: only compare may stand there, or an option is"),
        (["regenerate", "x", "--guidance-scale", "much"], "--guidance-scale is much: choose a number"),
        (["regenerate", "x", "--batch-size", "0"], "--batch-size is 0"),
        (["regenerate", "x", "--seed", "-1"], "--seed is -1"),
        (["regenerate", "x", "--run-id", "../up"], "run id '../up'"),
        (["regenerate", "x", "--profile", "tabeltop"], "did you mean 'tabletop'?"),
        (["regenerate", "x", "--prompts", "nowhere.txt"], "nowhere.txt"),
        (["regenerate", "x", "--bogus"], "--bogus"),
        (["show", "nothing"], "nothing"),
        (["diagnose", "nowhere.png"], "nowhere.png does not exist"),
        (["paint", "x"], "paint"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_painted(scripted, capsys, words, said) -> None:
    assert main([*words, *(["--no-prefect"] if words[0] == "regenerate" else [])]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ") and said in line
    assert scripted.generator.requests == []


def test_a_run_that_fails_leaves_no_empty_folder(scripted, capsys, monkeypatch, tmp_path) -> None:
    def broken(*_: object) -> None:
        raise ModelError("the generator broke")

    monkeypatch.setattr(type(scripted.generator), "generate", broken)
    (tmp_path / "mine").mkdir()
    for folder in ("new", "mine"):
        words = ["regenerate", "a red cone", "--out", str(tmp_path / folder), *PLAIN]
        assert main(words) == 1
        assert capsys.readouterr().err.splitlines()[-1] == "error: the generator broke"
    assert not (tmp_path / "new").exists() and (tmp_path / "mine").is_dir()
    assert main(["regenerate", "a blue cone", *PLAIN]) == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_an_unwritable_folder_is_found_before_painting(scripted, capsys, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert main(["regenerate", "a red cone", "--out", str(tmp_path / "file" / "deeper"), *PLAIN]) == 1
    assert "cannot write to" in capsys.readouterr().err
    assert scripted.generator.requests == []


def test_ctrl_c_keeps_finished_rounds_and_its_command_resumes(scripted, capsys) -> None:
    calls = []

    def stop_in_round_two() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    scripted.generator.before_painting = stop_in_round_two
    assert main(["regenerate", "it's a red cone", "--rounds", "3", *PLAIN]) == 130
    captured = capsys.readouterr()
    assert captured.out == ""
    command = shlex.split(captured.err.rstrip().splitlines()[-1])
    assert command[:3] == ["legion", "regenerate", "it's a red cone"] and "--run-id" in command
    (run,) = run_json(capsys, "runs")["runs"]
    assert run["status"] == "interrupted" and run["rounds"] == 2
    (run,) = run_json(capsys, *command[1:])["runs"]
    assert len(run["rounds"]) == 3
    seeds = [request.seed for request in scripted.generator.requests]
    assert len(seeds) == len(set(seeds)) == 3, "a committed picture was painted again"


def test_resuming_a_finished_run_paints_nothing(scripted, capsys) -> None:
    first = run_json(capsys, "regenerate", "a red cone", "--run-id", "once", *PLAIN)
    painted = len(scripted.generator.requests)
    assert run_json(capsys, "regenerate", "a red cone", "--run-id", "once", *PLAIN) == first
    assert len(scripted.generator.requests) == painted


def test_a_resumed_run_may_not_change_its_settings(scripted, capsys) -> None:
    run_json(capsys, "regenerate", "a red cone", "--run-id", "once", *PLAIN)
    assert main(["regenerate", "a red cone", "--run-id", "once", "--rounds", "5", *PLAIN]) == 1
    assert "rounds" in capsys.readouterr().err


def test_a_run_held_by_another_process_is_refused(scripted, capsys) -> None:
    code = (
        "import json, sys; from memory_bank import open_memory_bank; values = json.loads(sys.argv[1])\n"
        "bank, asked = open_memory_bank(), {'kind': 'regeneration', 'prompt': 'a red cone', 'seed': 7}\n"
        "with bank.begin('held', **asked, settings=values):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    tolerance = load_profile("tabletop").loop.score_tolerance
    settings = json.dumps(run_settings(scripted, RegenerationSettings(score_tolerance=tolerance)))
    holder = subprocess.Popen(
        [sys.executable, "-c", code, settings], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        assert main(["regenerate", "a red cone", "--run-id", "held", *PLAIN]) == 1
        assert "is held by process" in capsys.readouterr().err
    finally:
        holder.communicate("")


def test_show_and_runs_read_the_record(scripted, capsys) -> None:
    run_json(capsys, "regenerate", "a red cone", "--run-id", "kept", *PLAIN)
    (row,) = run_json(capsys, "runs")["runs"]
    assert (row["run_id"], row["status"], row["rounds"], row["best"]) == ("kept", "finished", 3, 3)
    (run,) = run_json(capsys, "show", "kept")["runs"]
    assert run["best"]["round"] == 3 and Path(run["report"]).is_file()
    assert main(["runs"]) == 0
    assert "kept" in capsys.readouterr().out


def test_diagnose_writes_masks_and_the_marked_picture(scripted, capsys, tmp_path) -> None:
    Pillow.fromarray(picture(3)).save(tmp_path / "cone.png")
    found = run_json(capsys, "diagnose", "cone.png")
    assert found["synthetic_probability"] == 0.98
    assert [finding["category"] for finding in found["findings"]] == ["physics", "structure"]
    assert Pillow.open(found["overlay"]).size == (256, 256)
    assert main(["diagnose", "cone.png"]) == 0
    captured = capsys.readouterr().out
    assert "2 findings" in captured and "generated" in captured and "no shadow" in captured


def test_a_file_that_is_no_picture_is_refused(scripted, capsys, tmp_path) -> None:
    (tmp_path / "fake.png").write_text("hello")
    assert main(["diagnose", "fake.png"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_tracebacks_are_for_debug_only(scripted, capsys) -> None:
    def fail() -> None:
        raise ModelError("the model ran out of memory: use a smaller --batch-size")

    scripted.generator.before_painting = fail
    assert main(["regenerate", "a red cone", *PLAIN]) == 1
    assert "Traceback" not in (said := capsys.readouterr().err)
    assert said.splitlines()[-1].startswith("error: the model ran out of memory")
    assert main(["regenerate", "a red cone", "--debug", *PLAIN]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_is_one_line_too(scripted, capsys) -> None:
    def fail() -> None:
        raise ZeroDivisionError("division by zero")

    scripted.generator.before_painting = fail
    assert main(["regenerate", "a red cone", *PLAIN]) == 1
    assert "error: unexpected ZeroDivisionError: division by zero (--debug" in capsys.readouterr().err


def test_the_plain_way_never_imports_prefect(tmp_path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import types, flows, flow_samples as s\n"
        "from controller.regeneration import RegenerationTools\n"
        "g = s.ScriptedGenerator()\n"
        "t = RegenerationTools(generator=g, defender=s.ScriptedDefender(g), modifier=s.ScriptedModifier(),\n"
        "    selection_scorer=s.ScriptedScorer(g), reporting_scorers=())\n"
        "m = types.ModuleType('flows.assemble'); m.regeneration_tools = lambda profile: t\n"
        "sys.modules['flows.assemble'] = flows.assemble = m\n"
        "from flows.cli import main\n"
        "assert main(['regenerate', 'a red cone', '--no-prefect']) == 0\n"
        "assert not {'prefect', 'torch'} & set(sys.modules)\n"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", code, here], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_resume_command_quotes_and_adds_the_id_once() -> None:
    dashed = ["regenerate", "--no-prefect", "--", "-5 cone"]
    expected = "legion regenerate --no-prefect --run-id x1 -- '-5 cone'"
    assert resume_command(dashed, "x1", True) == expected
    assert resume_command(["regenerate", "a b"], "x1", True) == "legion regenerate 'a b' --run-id x1"
    given = ["regenerate", "a", "--run-id", "x1"]
    assert resume_command(given, "x1", False) == "legion regenerate a --run-id x1"


def test_without_a_command_help_goes_to_stderr(capsys) -> None:
    assert main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "regenerate" in captured.err

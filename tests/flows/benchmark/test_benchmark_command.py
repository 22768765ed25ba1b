"""`legion benchmark` as a person types it, over the scripted world."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from made_results import TASTE, made, noisy

from flows.benchmark import results
from flows.cli import main


@pytest.fixture
def prompts(tmp_path) -> str:
    path = tmp_path / "prompts.csv"
    path.write_text("id,prompt,category\n" + "".join(f"{i},gray wall number {i},even\n" for i in range(4)))
    return str(path)


@pytest.fixture
def ask(world, profile, tmp_path, monkeypatch, capsys):
    """Run the command; its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["benchmark", "--profile", str(profile), *words, "--no-prefect"])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_it_answers_and_writes_everything(ask, prompts) -> None:
    code, out, err = ask("--prompts", prompts, "--out", "here", "--arms", "one-shot,best-of-n,regeneration")
    assert code == 0, err
    assert (
        "Against best-of-n" in out and out.splitlines()[-1] == f"report: {Path('here').resolve()}/report.html"
    )
    names = {"results.json", "rows.csv", "rows.parquet", "table.md", "picture.svg", "report.html"}
    assert {path.name for path in Path("here").iterdir()} == names
    assert "too few" in err


def test_that_workers_are_not_asked_is_said(ask, prompts, monkeypatch) -> None:
    monkeypatch.setenv("LEGION_TOOLS", "workers")
    code, _, err = ask("--prompts", prompts, "--n", "1", "--arms", "one-shot")
    assert code == 0 and "a benchmark asks no workers" in " ".join(err.split())
    monkeypatch.setenv("LEGION_TOOLS", "here")
    code, _, err = ask("--prompts", prompts, "--n", "1", "--arms", "one-shot")
    assert code == 0 and "workers" not in err


def test_machines_get_one_object(ask, prompts) -> None:
    code, out, _ = ask("--prompts", prompts, "--n", "2", "--arms", "one-shot,best-of-n", "--json")
    said = json.loads(out)
    assert code == 0 and len(said["prompts"]) == 2
    assert {row["other"] for row in said["comparisons"]} == {"one-shot"}
    assert Path(said["files"]["report"]).parent == Path("out/benchmark-squares-prompts").resolve()


def test_all_means_all_that_can_run_without_pictures(ask, prompts) -> None:
    code, out, err = ask("--prompts", prompts, "--n", "2", "--arms", "all", "--json")
    arms = {arm["name"]: arm["problem"] for arm in json.loads(out)["arms"]}
    assert code == 0 and "given" not in arms and len(arms) == 9
    assert [name for name, problem in arms.items() if problem] == ["oracle"]
    assert "the arm oracle is not run: the profile 'squares' has no judge" in " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--n", "5"), "--n is 5: .* holds 4 prompts"),
        (("--arms", "one-shot,best"), "there is no arm 'best'"),
        (("--budget", "0"), "--budget is 0"),
        (("--seeds", "101"), "--seeds is 101"),
        (("--seed", "-1"), "--seed is -1"),
        (("--workers", "65"), "--workers is 65"),
        (("--runner", "dask"), "--runner dask is Prefect's"),
        (
            ("--preset", "paper", "--profile", "paper", "--prompts", ""),
            "the paper's captions were not published",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(ask, prompts, words, message) -> None:
    import re

    code, out, err = ask("--prompts", prompts, *words)
    assert code == 1 and not out
    assert re.fullmatch(f"error: .*{message}.*", " ".join(err.split()))


@pytest.mark.parametrize(
    "words", [("--prompts", "empty.txt"), ("--arms", "best"), ("--n", "401"), ("compare", "here", "there")]
)
def test_what_cannot_be_done_is_said_before_torch_is_loaded(tmp_path, words) -> None:
    (tmp_path / "empty.txt").touch()
    asked = "import sys; from flows.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    command = [sys.executable, "-c", asked, "benchmark", *words]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert said.stdout == "False\n" and said.stderr.startswith("error: ")


def test_the_preset_takes_the_papers_numbers_as_far_as_there_are_prompts(ask, prompts) -> None:
    code, out, err = ask("--preset", "paper", "--prompts", prompts, "--out", "here")
    assert code == 0, err
    assert "Beside the paper's table 4" in out and "31.24" in out
    measured = results.load(Path("here"))
    assert measured.facts["preset"] == "paper" and measured.budget == 3 and len(measured.prompts) == 4
    assert {arm.name for arm in measured.arms if arm.problem} == {"given", "given-inpainting"}


def test_two_benchmarks_are_compared(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name, gain in (("a", 0.1), ("b", 0.4)):
        values = noisy(8, {"one-shot": 0.0, "regeneration": gain})
        results.write(made(values, measures=(TASTE,)), tmp_path / name)
    assert main(["benchmark", "compare", "a", "b"]) == 0
    out, err = capsys.readouterr()
    assert "Regeneration does better in the second" in out
    assert "8 prompts are too few for a claim" in " ".join(err.split())
    assert out.splitlines()[-1] == f"report: {tmp_path}/out/benchmark-a-b/comparison.html"
    assert main(["benchmark", "compare", "a", "b/results.json", "--json", "--out", "c"]) == 0
    assert json.loads(capsys.readouterr().out)["prompts"] == 8
    page = (tmp_path / "c" / "comparison.html").read_text()
    assert "<script" not in page and "regeneration" in page
    assert main(["benchmark", "compare", "a", "nowhere"]) == 1
    assert capsys.readouterr().err.startswith("error: nowhere cannot be read")

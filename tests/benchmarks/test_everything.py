"""Every measurement is kept with what it was made with, and what pages show is what was measured."""

import re
from pathlib import Path

import pytest

from benchmarks import everything

PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("benchmark", "inpainting", "defender", "training", "bundled")),
)
INTERVAL = re.compile(r"\[[+-]?\d+(?:\.\d+)?, [+-]?\d+(?:\.\d+)?\]")


def asked(command):
    return everything.Measurement(command, frozenset({"clip"}))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder for answers, and one cheap command."""
    monkeypatch.setattr(everything, "FOLDER", tmp_path)
    monkeypatch.setitem(everything.MEASUREMENTS, "small", asked("python -c 'print(1 + 1)'"))
    return tmp_path / "small.txt"


def intervals(text: str) -> set[tuple[float, ...]]:
    """All of a text, without their signs: "ahead by" turns them round."""
    return {
        tuple(sorted(map(float, re.findall(r"\d+(?:\.\d+)?", found)))) for found in INTERVAL.findall(text)
    }


def test_an_answer_says_with_which_weights_and_is_not_asked_for_twice(elsewhere, capfd):
    assert everything.state("small", "clip 1") == "not measured"
    assert everything.measure("small", "clip 1")
    assert elsewhere.read_text() == "python -c 'print(1 + 1)'\nclip 1\n\n2\n\nexit code 0\n"
    elsewhere.write_text(elsewhere.read_text().replace("\n2\n", "\n3\n"))
    assert everything.measure("small", "clip 1") and "\n3\n" in elsewhere.read_text()
    assert everything.state("small", "clip 2") == "of other weights"
    assert everything.measure("small", "clip 2") and "\n2\n" in elsewhere.read_text()


def test_only_the_models_that_it_uses_its_command_and_the_settings_make_an_answer_old(elsewhere, monkeypatch):
    before = "clip 1, judge 1, settings 1"
    assert everything.measure("small", before)
    assert everything.state("small", before.replace("judge 1", "judge 2")) == "measured"
    assert everything.state("small", before.replace("clip 1", "clip 2")) == "of other weights"
    assert everything.state("small", before.replace("settings 1", "settings 2")) == "of other weights"
    monkeypatch.setitem(everything.MEASUREMENTS, "small", asked("python -c 'print(2)'"))
    assert everything.state("small", before) == "of another command"


@pytest.mark.parametrize("command", ["python -c 'raise SystemExit(2)'", "python -c pass"])
def test_a_command_that_failed_or_said_nothing_leaves_nothing(elsewhere, monkeypatch, command):
    monkeypatch.setitem(everything.MEASUREMENTS, "small", asked(command))
    assert not everything.measure("small", "clip 1") and not elsewhere.exists()


def test_an_answer_has_the_tables_that_were_written_and_no_path_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("table.md").write_text("| 1.23 |\n")
    assert everything.answer(f"│ 1.2 │\nmarkdown: {tmp_path}/table.md\n") == "| 1.23 |\n"
    assert everything.answer(f"see {tmp_path}/out/a.json") == "see out/a.json\n"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_no_interval_that_was_not_measured(page):
    measured = set().union(*(intervals(kept.read_text()) for kept in everything.FOLDER.glob("*.txt")))
    shown = intervals(Path(page).read_text())
    unmeasured = shown - measured
    assert shown and not unmeasured


def test_kept_answers_are_of_the_commands_as_they_are_now():
    for kept in everything.FOLDER.glob("*.txt"):
        assert kept.read_text().startswith(everything.MEASUREMENTS[kept.stem].command + "\n"), kept

"""A person's word on a round: asked for in the terminal, kept with who and when, shown everywhere, the same
again in a replay."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest
from flow_samples import sample_run
from PIL import Image as Pillow
from red_squares import assemble, picture, square_tools

from contracts.errors import InvalidInput, LegionError
from contracts.records import Review, Verdict
from flows.cli import main
from flows.files.output import review_values
from flows.jobs.approval import Approval, check_approval, recorded, review_of, reviewer
from flows.pages.gallery import gallery, round_page
from flows.pages.report import render_report
from flows.terminal.reviewing import Lines, ask_in_terminal
from flows.terminal.wording import review_words
from memory_bank import open_memory_bank

ADA = Review("reject", "Ada", "2026-11-21T15:20:30+00:00", note="too dark")


@pytest.fixture
def typed():
    """Types into a pipe that is read in stdin's place; yields what to type with and the reading end."""
    reading, writing = os.pipe()

    def type_in(text: str) -> None:
        os.write(writing, text.encode())

    yield type_in, reading, lambda: os.close(writing)
    os.close(reading)


@pytest.fixture
def stdin(monkeypatch):
    """What is piped into a command."""
    kept = os.dup(0)

    def pipe(text: str) -> None:
        reading, writing = os.pipe()
        os.write(writing, text.encode())
        os.close(writing)
        os.dup2(reading, 0)
        os.close(reading)

    yield pipe
    os.dup2(kept, 0)
    os.close(kept)


def reviews(run_id: str) -> list[tuple[str, str]]:
    kept = [item.review for item in open_memory_bank().load(run_id).rounds]
    return [(word.decision, word.note) for word in kept if word is not None]


# --- when nobody answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "decision"), [("gate", "gate"), ("stop", "stop")])
def test_nobody_in_time_is_said_so(shelf, policy, decision) -> None:
    review = Approval("each-round", 5, policy).unanswered(sample_run(shelf))
    assert (review.decision, review.who) == (decision, "nobody, in time")


def test_nobody_in_time_can_be_a_failure(shelf) -> None:
    with pytest.raises(LegionError, match="nobody answered within 5 minutes: legion resume .* asks again"):
        Approval("final", 5, "fail").unanswered(sample_run(shelf))


def test_an_answer_that_cannot_be_used_is_asked_for_again(shelf) -> None:
    problems, released = [], []

    def ask(run, proposed, problem):
        problems.append(problem)
        return review_of("edit prompt", "Ada", "" if not problem else "a red cone at night")

    asked = reviewer(Approval("each-round"), ask, lambda: released.append(1))
    review = asked(sample_run(shelf), Verdict(True, "fine"))
    assert review.prompt == "a red cone at night" and released == [1]
    assert problems[0] == "" and "prompt" in problems[1]


def test_nobody_is_asked_where_nobody_wants_to_be(shelf) -> None:
    assert reviewer(Approval("none"), lambda *_: ADA) is None
    assert reviewer(Approval("final"), lambda *_: ADA)(sample_run(shelf), Verdict(True, "fine")) is None


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (("none", 5, None), "--review-minutes waits for nobody"),
        (("none", None, "stop"), "--after-timeout waits for nobody"),
        (("final", 0, None), "--review-minutes is 0: choose"),
        (("final", float("nan"), None), "--review-minutes is nan"),
        (("final", 10**6, None), "up to 10080"),
    ],
)
def test_options_that_make_no_approval(given, problem) -> None:
    with pytest.raises(InvalidInput, match=problem):
        check_approval(*given)


# --- the terminal -------------------------------------------------------------------------------------


def test_lines_come_one_by_one_and_in_time(typed) -> None:
    type_in, reading, close = typed
    lines = Lines(reading)
    type_in("one\ntw")
    soon = time.monotonic() + 5
    assert lines.next(soon) == "one"
    assert lines.next(time.monotonic() + 0.05) is None
    type_in("o\n")
    time.sleep(0.2)
    lines.forget()  # typed too late: it answers nothing
    type_in("three")
    close()
    assert lines.next(time.monotonic() + 5) == "three"
    with pytest.raises(LegionError, match="nobody can answer, as standard input is closed"):
        lines.next(time.monotonic() + 5)


@pytest.mark.parametrize(
    ("text", "decision", "kept"),
    [
        ("a\n", "accept", {}),
        ("R too dark\n", "reject", {"note": "too dark"}),
        ("e a red cone at night\n", "edit prompt", {"prompt": "a red cone at night"}),
        ("e\na red cone at night\n", "edit prompt", {"prompt": "a red cone at night"}),
        ("t\n0.6\n", "edit thresholds", {"thresholds": {"min_confidence": 0.6}}),
        ("\n", "gate", {}),
        ("s enough\n", "stop", {"note": "enough"}),
    ],
)
def test_what_a_person_types(shelf, tmp_path, typed, capsys, text, decision, kept) -> None:
    type_in, reading, _ = typed
    type_in(text)
    run = sample_run(shelf)
    bank = type("Bank", (), {"image": staticmethod(shelf)})
    ask = ask_in_terminal(Approval("each-round"), bank, tmp_path, descriptor=reading)
    review = ask(replace(run, rounds=run.rounds[:1]), Verdict(True, "first round"), "")
    assert review.decision == decision
    assert {name: getattr(review, name) for name in kept} == kept
    said = capsys.readouterr()
    assert said.out == "" and "shadow of the red cone (physics, 87% sure)" in said.err
    assert "the gate would accept it: first round" in said.err
    shown = Pillow.open(tmp_path / f"{run.run_id}-round-1-review.png")
    assert shown.size == (512, 256)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("yes\n", "'yes' is none of a, r, e"),
        ("t\n2\n", "'2' is no number from 0 to 1"),
        ("t\n\n", "no threshold"),
        ("e\n\n", "prompt"),
    ],
)
def test_what_cannot_be_used(shelf, tmp_path, typed, text, problem) -> None:
    type_in, reading, _ = typed
    type_in(text)
    bank = type("Bank", (), {"image": staticmethod(shelf)})
    ask = ask_in_terminal(Approval("each-round"), bank, tmp_path, descriptor=reading)
    with pytest.raises(InvalidInput, match=problem):
        ask(sample_run(shelf), Verdict(True, "fine"), "")


def test_a_run_is_approved_in_the_terminal(scripted, stdin, capsys) -> None:
    stdin("what\nr too dark\ne a red cone on wooden table, perfect shape\ns\n")
    words = ["regenerate", "a red cone", "--review", "each-round", "--run-id", "asked", "--no-prefect"]
    assert main(words) == 0
    said = capsys.readouterr()
    assert "that cannot be used: 'what' is none of" in said.err
    assert reviews("asked") == [("reject", "too dark"), ("edit prompt", ""), ("stop", "")]
    run = open_memory_bank().load("asked")
    assert not run.rounds[0].verdict.accepted
    assert run.rounds[2].prompt == "a red cone on wooden table, perfect shape"
    assert run.rounds[2].verdict.stop.startswith("stopped by ")
    assert "round 1: rejected by " in said.out and "too dark" in said.out
    main(["show", "asked", "--json"])
    shown = json.loads(capsys.readouterr().out)["runs"][0]["rounds"]
    assert shown[0]["review"]["decision"] == "reject" and shown[0]["review"]["when"].endswith("+00:00")
    assert main(["replay", "asked"]) == 0


def test_a_closed_stdin_keeps_the_round_and_asks_again(scripted, stdin, capsys) -> None:
    stdin("")
    words = ["regenerate", "a red cone", "--review", "final", "--run-id", "late", "--no-prefect"]
    assert main([*words, "--rounds", "1"]) == 1
    assert "nobody can answer, as standard input is closed" in capsys.readouterr().err
    painted = len(scripted.generator.requests)
    stdin("a\n")
    assert main(["resume", "late", "--review", "final", "--no-prefect"]) == 0
    assert reviews("late") == [("accept", "")] and len(scripted.generator.requests) == painted


def test_a_round_of_repairs_is_rejected_in_the_terminal(monkeypatch, tmp_path, stdin, capsys) -> None:
    assemble(monkeypatch, square_tools())
    monkeypatch.chdir(tmp_path)
    Pillow.fromarray(picture((4, 4, 8, 8))).save("a.png")
    stdin("r leave it\n")
    words = ["inpaint", "a.png", "--prompt", "a wall", "--rounds", "1", "--review", "each-round"]
    assert main([*words, "--run-id", "kept", "--no-prefect", "--json"]) == 0
    said = capsys.readouterr()
    (run,) = json.loads(said.out)["runs"]
    assert run["rounds"][0]["review"]["note"] == "leave it"
    assert "region 1: the square · repaired" in said.err
    original, result = Pillow.open("a.png"), Pillow.open(run["output"])
    assert list(original.getdata()) == list(result.convert("RGB").getdata())
    assert "asked: rejected by " in (tmp_path / "out/kept/report.html").read_text()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--review", "always"], "invalid choice: 'always'"),
        (["--review-minutes", "5", "--no-prefect"], "--review-minutes waits for nobody"),
        (["--review", "final", "--review-on", "page", "--no-prefect"], "leave --no-prefect out"),
        (["--review", "final", "--review-on", "page"], "start legion ui, and export the PREFECT_API_URL"),
    ],
)
def test_options_are_checked_before_anything_is_painted(scripted, capsys, words, problem) -> None:
    assert main(["regenerate", "a red cone", *words]) == 1
    assert problem in capsys.readouterr().err
    assert not scripted.generator.requests


# --- where it is shown --------------------------------------------------------------------------------


def reviewed_run(shelf):
    run = sample_run(shelf)
    return replace(run, rounds=(replace(run.rounds[0], review=ADA), *run.rounds[1:]))


def test_who_said_what_and_when_is_shown(shelf) -> None:
    run, words = reviewed_run(shelf), "rejected by Ada · too dark · 2026-11-21 15:20 UTC"
    assert review_words(run.rounds[0]) == words and review_words(run.rounds[1]) == ""
    assert f"asked: {words}" in render_report([run], shelf)
    assert "- **Asked:** rejected by Ada" in gallery(run, shelf)
    assert review_values(run.rounds[0])["who"] == "Ada" and review_values(run.rounds[1]) is None


def test_the_page_of_a_round_shows_it_with_the_gates_proposal(shelf) -> None:
    run = sample_run(shelf)
    page = round_page(replace(run, rounds=run.rounds[:2]), Verdict(False, "worse", "patience"), shelf)
    assert page.count("(data:image/jpeg") == 2
    assert "**The gate would reject** this round: worse. The run would end here: patience." in page
    assert "a red cone, **natural shadow**" in page and "Verdict" not in page
    assert page.startswith("![the picture](data:image/jpeg")


def test_recorded_answers_are_given_again(shelf) -> None:
    run = reviewed_run(shelf)
    say = recorded(run)
    assert say(replace(run, rounds=run.rounds[:1]), Verdict(True, "")) == ADA
    assert say(replace(run, rounds=run.rounds[:2]), Verdict(True, "")) is None

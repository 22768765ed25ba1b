"""Word differences, console pieces, the gallery's Markdown and the score curves."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as xml
from dataclasses import replace

import pytest
from flow_samples import sample_run
from hypothesis import given
from hypothesis import strategies as st

from contracts.records import Revision, Round, Usage
from controller.regeneration import STEPS
from controller.steps import StepFinished
from flows.pages.charts import Point, curve, nice_ticks
from flows.pages.gallery import Links, artifact_key, difference_words, gallery, plain, score_rows
from flows.settings import prepare_prefect
from flows.terminal.console import difference_text, note_unknown
from flows.terminal.progress import share_done
from flows.terminal.wording import (
    advice,
    listed,
    outcome,
    reason_words,
    revision_words,
    verdict_words,
    word_difference,
)


@given(st.text("ab ,", max_size=30), st.text("ab ,", max_size=30))
def test_a_difference_holds_both_texts(before, after) -> None:
    pieces = word_difference(before, after)
    assert "".join(p.text for p in pieces if p.kind != "added") == before
    assert "".join(p.text for p in pieces if p.kind != "removed") == after


def test_a_difference_is_by_words() -> None:
    pieces = word_difference("a red cone", "a red cone, natural shadow")
    assert [(p.kind, p.text) for p in pieces] == [("same", "a red cone"), ("added", ", natural shadow")]
    assert difference_text("a red cone", "a blue cone, x").plain == "a [-red] [+blue] cone, [+x]"


def test_outcomes_are_sentences(shelf) -> None:
    run = sample_run(shelf)
    assert outcome(run) == "From 2 findings in round 1 to no artifacts left in round 3."
    assert outcome(dataclasses.replace(run, rounds=run.rounds[:1])) == "One round, with 2 findings."
    assert outcome(dataclasses.replace(run, rounds=run.rounds[:2])).startswith("No later round was better")
    assert outcome(dataclasses.replace(run, rounds=run.rounds[2:])) == "The first picture shows no artifacts."
    assert outcome(dataclasses.replace(run, rounds=())) == "No round was finished yet."
    assert [verdict_words(run, item) for item in run.rounds] == ["accepted", "rolled back", "best"]


def test_a_run_that_had_nothing_to_do_says_how_to_see_the_loop_work(shelf) -> None:
    run = dataclasses.replace(sample_run(shelf), settings={"rounds": 3})
    clean = dataclasses.replace(run, rounds=run.rounds[2:])
    assert advice(clean) == (
        f"Another seed, such as {run.seed + 1}, paints another picture, which may leave more to do."
    )
    assert advice(run) is None
    assert advice(dataclasses.replace(run, rounds=run.rounds[:1])) is None
    assert advice(dataclasses.replace(run, rounds=())) is None
    assert advice(dataclasses.replace(clean, settings={"rounds": 1})) is None


def test_a_verdict_is_not_said_twice(shelf) -> None:
    item = sample_run(shelf).rounds[1]
    assert item.verdict
    twice = dataclasses.replace(item, verdict=dataclasses.replace(item.verdict, reason="rolled back: worse"))
    assert reason_words(twice) == "worse"


def test_unknown_words_are_listed(capsys) -> None:
    note_unknown("a zorp", [])
    assert capsys.readouterr().err == ""
    note_unknown("a zorp", ["zorp"])
    assert (
        capsys.readouterr().err
        == "note: 'zorp' is a word the model does not know, in \"a zorp\"; it paints what it can\n"
    )
    assert listed(["a", "b", "c"]) == "'a', 'b' and 'c'"


@given(st.floats(-1e3, 1e3), st.floats(0, 1e3), st.booleans())
def test_ticks_enclose_the_values_and_are_few(low, span, whole) -> None:
    if whole:
        low, span = float(abs(round(low))), float(round(span))
    ticks = nice_ticks(low, low + span, whole=whole)
    step = ticks[1] - ticks[0]
    assert ticks[0] <= low + 1e-6 * step and ticks[-1] >= low + span - 1e-6 * step
    assert 2 <= len(ticks) <= 12
    assert not whole or all(tick == round(tick) for tick in ticks)


def test_a_curve_is_well_formed_and_higher_is_higher() -> None:
    svg = curve(
        'a "b" <c>', [Point(1, 0.2, True, False), Point(2, 0.1, False, False), Point(3, 0.9, True, True)]
    )
    root = xml.fromstring(str(svg))
    dots = [node for node in root.iter("circle") if "dot" in node.attrib["class"]]
    heights = [float(dot.attrib["cy"]) for dot in dots]
    assert heights[2] < heights[0] < heights[1]
    assert [dot.attrib["class"] for dot in dots] == ["dot kept", "dot rolled", "dot kept"]
    assert len([node for node in root.iter("circle") if node.attrib["class"] == "ring"]) == 1


def test_the_gallery_shows_every_round_with_small_pictures(shelf) -> None:
    text = gallery(sample_run(shelf, prompt="a | red <b>cone</b>"), shelf)
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("### ")] == [
        "### Round 1",
        "### Round 2",
        "### Round 3",
    ]
    pictures = [part.split(")")[0] for part in text.split("(data:image/jpeg")[1:]]
    assert len(pictures) > 3 and all(len(uri) <= 64 * 1024 for uri in pictures)
    assert "<b>" not in text and "\\|" in text
    assert "**Found:** no artifacts" in text and "rolled back" in text
    assert "not linked" in text and "http" not in text


def test_a_gallery_links_full_pictures_and_says_what_to_do_where_they_cannot_be_reached(shelf) -> None:
    run = sample_run(shelf)
    text = gallery(run, shelf, Links("http://box:4201"))
    for item in run.rounds:
        assert f"(http://box:4201/images/{item.image}.png)" in text
    assert f"(http://box:4201/runs/{run.run_id}/report.html)" in text
    assert "![The pictures' server at http://box:4201 cannot be reached" in text.replace("\\", "")


def test_many_rounds_share_the_page(shelf) -> None:
    run = sample_run(shelf)
    many = replace(run, rounds=run.rounds * 40)
    assert len(gallery(many, shelf)) < 1.5 * 1024 * 1024


def test_the_difference_of_prompts_is_marked() -> None:
    assert difference_words("a cone", "a cone") == "a cone"
    assert difference_words("a cone, dull", "a cone, lit") == "a cone, ~~dull~~ **lit**"
    assert difference_words("a cone", "a cone, soft light") == "a cone, **soft light**"


def test_scores_are_a_row_per_round(shelf) -> None:
    rows = score_rows(sample_run(shelf))
    assert [row["round"] for row in rows] == [1, 2, 3] and "preference" in rows[0]


def test_markdown_of_others_is_inert() -> None:
    assert plain("![x](http://y) `a`\n| b") == "\\!\\[x\\]\\(http://y\\) \\`a\\` \\| b"


def test_gallery_keys_are_accepted_by_prefect() -> None:
    assert artifact_key("gallery", "20261121-Red_cone.7F") == "gallery-20261121-red-cone-7f"


def test_the_bar_moves_from_nothing_to_everything() -> None:
    shares = [
        share_done(StepFinished("x", step, index, done, 2), 3)
        for index in (1, 2, 3)
        for step in STEPS
        for done in (1, 2)
    ]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] == pytest.approx(1)


def test_prefect_is_quiet_and_offline_unless_a_person_says_otherwise() -> None:
    env = {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    prepare_prefect(environ=env)
    assert env["PREFECT_LOGGING_LEVEL"] == "DEBUG"
    assert env["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false" and env["DO_NOT_TRACK"] == "1"
    assert int(env["PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"]) > 20
    loud: dict[str, str] = {}
    prepare_prefect(verbose=True, environ=loud)
    assert "PREFECT_LOGGING_LEVEL" not in loud


def test_a_revision_says_who_wrote_it_and_what_that_took() -> None:
    by_rule = Round(1, "a cone", 1, revision=Revision("a cone, lit", reason="added; by rule, because x"))
    assert revision_words(by_rule) == "added; by rule, because x"
    paid = Revision("a cone, lit", reason="light (m)", usage=Usage(2, 1_200, 90, 0.0004))
    assert revision_words(Round(1, "a cone", 1, revision=paid)).endswith("2 calls, 1,290 tokens, $0.0004")
    assert revision_words(Round(1, "a cone", 1)) == ""

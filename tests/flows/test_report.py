"""The report page: complete, self-contained, and safe against what people type."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import pytest
from flow_samples import sample_run

from contracts.records import Diagnosis, Run
from flows.pages.report import flat_settings, render_report, write_page

VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def render(shelf, *runs: Run) -> str:
    return render_report(runs, shelf, versions={"torch": "9.9"})


def test_the_page_tells_the_whole_story(shelf) -> None:
    text = Page(render(shelf, sample_run(shelf))).text
    for expected in (
        "From 2 findings in round 1 to no artifacts left in round 3.",
        "Round 2 rolled back score fell",
        "The cone stands in the light but throws no shadow",
        "tip of the red cone structure",
        "preference 0.830 +0.420",
        "guidance scale",
        "3f3f3f",
        "torch 9.9",
        "20261121-071502-red-cone-7f3a",
    ):
        assert expected in text, expected


def test_nothing_outside_the_page_is_referred_to(shelf) -> None:
    html = render(shelf, sample_run(shelf), dataclasses.replace(sample_run(shelf), run_id="other"))
    page = Page(html)
    for tag, name, value in page.attributes:
        assert tag not in ("script", "link", "iframe", "object", "base")
        if name in ("src", "href"):
            assert value.startswith(("data:image/webp;base64,", "#")), (tag, name, value[:60])
    assert not re.search(r"url\(|@import|https?://", html)


def test_every_picture_and_every_number_is_there(shelf) -> None:
    page = Page(render(shelf, sample_run(shelf)))
    pictures = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    # Hero: first with overlay, best. Rounds: three pictures, two of them once more with overlay.
    assert len(pictures) == 3 + 3 + 4
    pins = [value for tag, name, value in page.attributes if (tag, name, value) == ("span", "class", "pin")]
    assert len(pins) == 2 + 2 + 1


@pytest.mark.parametrize("place", ["prompt", "phrase", "explanation", "reason", "settings"])
def test_what_people_and_models_write_is_escaped(shelf, place) -> None:
    evil = "\"><script>alert(1)</script><img src=x onerror='alert(2)'>"
    run = sample_run(shelf, prompt=evil if place == "prompt" else "a red cone")
    first = run.rounds[0]
    assert first.diagnosis and first.verdict
    finding = first.diagnosis.findings[0]
    if place in ("phrase", "explanation"):
        first = dataclasses.replace(
            first, diagnosis=Diagnosis((dataclasses.replace(finding, **{place: evil}),), 0.9)
        )
    if place == "reason":
        first = dataclasses.replace(first, verdict=dataclasses.replace(first.verdict, reason=evil))
    settings = {"note": evil} if place == "settings" else run.settings
    run = dataclasses.replace(run, rounds=(first, *run.rounds[1:]), settings=settings)
    page = Page(render(shelf, run))
    assert not [item for item in page.attributes if item[0] == "script" or item[1].startswith("on")]
    assert "<script>alert(1)</script>" in page.text


def test_changed_words_are_marked(shelf) -> None:
    html = render(shelf, sample_run(shelf))
    assert re.search(r"<ins>[^<]*natural shadow</ins>", html)
    assert re.search(r"<ins>[^<]*perfect shape[^<]*</ins>", html)
    assert "<ins>" not in html[: html.index("Round 2")]


def test_a_removed_word_is_marked_too(shelf) -> None:
    run = sample_run(shelf, prompt="a red cone")
    changed = dataclasses.replace(run.rounds[1], prompt="a cone")
    html = render(shelf, dataclasses.replace(run, rounds=(run.rounds[0], changed)))
    assert re.search(r"<del>[^<]*red</del>", html)


def test_a_batch_has_an_index_that_leads_to_every_run(shelf) -> None:
    runs = [sample_run(shelf, f"batch-{number}") for number in range(7)]
    page = Page(render(shelf, *runs))
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    ids = {value for _, name, value in page.attributes if name == "id"}
    assert links == [f"#batch-{number}" for number in range(7)]
    assert {link[1:] for link in links} <= ids
    assert "runs with a result 7 of 7" in page.text and "with findings in round 1 7" in page.text


@pytest.mark.parametrize("kept", [0, 1])
def test_an_unfinished_run_has_a_page(shelf, kept) -> None:
    run = sample_run(shelf)
    part = dataclasses.replace(run.rounds[0], diagnosis=None, scores=None, verdict=None)
    page = Page(render(shelf, dataclasses.replace(run, rounds=(part,)[:kept], status="interrupted")))
    assert "No round was finished yet." in page.text and "interrupted" in page.text


def test_small_pages_stay_small(shelf, tmp_path) -> None:
    path = write_page(render_report([sample_run(shelf)], shelf), tmp_path / "deep" / "report.html")
    assert path.stat().st_size < 250_000


def test_settings_become_flat_rows() -> None:
    rows = flat_settings({"rounds": 3, "tools": {"scorers": [{"name": "a"}, {"name": "b"}], "x": None}})
    assert rows == [
        ("rounds", "3"),
        ("tools · scorers 1 · name", "a"),
        ("tools · scorers 2 · name", "b"),
        ("tools · x", "none"),
    ]


def test_scores_of_two_versions_have_no_gain(shelf) -> None:
    run = sample_run(shelf)
    text = Page(render(shelf, run)).text
    assert "preference 0.830 +0.420" in text and "clip 0.310 +0.090" in text
    preference, clip = run.rounds[0].scores or ()
    first = dataclasses.replace(run.rounds[0], scores=(dataclasses.replace(preference, version="2"), clip))
    text = Page(render(shelf, dataclasses.replace(run, rounds=(first, *run.rounds[1:])))).text
    assert "+0.420" not in text and "clip 0.310 +0.090" in text

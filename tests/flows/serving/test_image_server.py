"""The pictures' server: what a run shows, what it refuses, and no word of this machine's folders."""

from __future__ import annotations

import io

import pytest
from PIL import Image as Pillow
from starlette.testclient import TestClient

from flows.jobs.regeneration import execute, make_job
from flows.profiles.loading import load_profile
from flows.serving.image_server import image_app
from flows.serving.places import reports_folder
from memory_bank import open_memory_bank

PROMPT = "a red cone"


@pytest.fixture
def run(scripted):
    job = make_job("tabletop", load_profile("tabletop"), [PROMPT], "shown", seed=7, rounds=2)
    (made,) = execute(job, scripted, open_memory_bank())
    return made


@pytest.fixture
def browser(run):
    with TestClient(image_app(open_memory_bank, "http://prefect.example:4200")) as client:
        yield client


def test_the_first_page_lists_runs_and_links_to_prefect(browser) -> None:
    page = browser.get("/").text
    assert PROMPT in page and "/runs/shown" in page and "http://prefect.example:4200" in page


def test_pictures_come_whole_and_marked(browser, run) -> None:
    item = run.rounds[0]
    whole = browser.get(f"/images/{item.image}.png")
    marked = browser.get(f"/runs/shown/rounds/{item.index}/marked.png")
    sizes = [Pillow.open(io.BytesIO(answer.content)).size for answer in (whole, marked)]
    height, width = open_memory_bank().image(item.image).shape[:2]
    assert sizes[0] == (width, height) and item.diagnosis.findings and whole.content != marked.content
    assert "immutable" in whole.headers["cache-control"] and marked.headers["cache-control"] == "no-cache"


def test_a_report_is_drawn_from_the_bank(browser) -> None:
    answer = browser.get("/runs/shown", follow_redirects=True)
    assert answer.url.path == "/runs/shown/report.html"
    assert PROMPT in answer.text and "data:image" in answer.text


def test_a_form_s_report_is_a_file_of_the_reports_folder_and_no_other(browser) -> None:
    folder = reports_folder() / "benchmark-0123abcd"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<p>arms</p>")
    (reports_folder().parent / "report.html").write_text("secret")
    assert browser.get("/reports/benchmark-0123abcd/report.html").text == "<p>arms</p>"
    for name in ("benchmark-00000000", "NOT", "%2e%2e", "..%2f", "a%00b", "."):
        answer = browser.get(f"/reports/{name}/report.html")
        assert answer.status_code == 404 and "secret" not in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/images/0123.png", 404),
        ("/images/" + "0" * 64 + ".png", 404),
        ("/runs/nobody/report.html", 404),
        ("/runs/shown/rounds/9/marked.png", 404),
        ("/runs/shown/rounds/x/marked.png", 404),
        ("/runs/%2e%2e%2fetc/report.html", 404),
        ("/runs/-/report.html", 404),
    ],
)
def test_what_is_not_there_is_refused_in_a_line_that_names_no_folder(browser, path, status, tmp_path) -> None:
    answer = browser.get(path)
    assert answer.status_code == status
    assert (
        answer.text.count("\n") <= 1 and "Traceback" not in answer.text and str(tmp_path) not in answer.text
    )


def test_nothing_is_written_over_http(browser) -> None:
    assert {browser.request(verb, "/runs/shown/report.html").status_code for verb in ("POST", "DELETE")} == {
        405
    }


def test_prefect_s_pages_are_named_as_browsers_reach_them(tmp_path) -> None:
    from flows.serving.places import Address
    from flows.serving.ui import Plan

    places = (Address("0.0.0.0", 4200), Address("0.0.0.0", 4201), "http://pictures:4201", tmp_path, tmp_path)
    inside = Plan(*places, server_url="http://prefect:4200")
    assert inside.dashboard == "http://prefect:4200"
    outside = Plan(*places, server_url="http://prefect:4200", page_url="http://10.0.0.1:4200")
    assert outside.dashboard == "http://10.0.0.1:4200" and outside.api == "http://prefect:4200/api"

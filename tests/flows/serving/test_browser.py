"""What people do in a browser: start a run by a form, approve it, look at it, cancel it, take it up again.

`make test-browser` runs it. With LEGION_SCREENSHOTS naming a folder it makes the pictures of docs/ui.md:

    LEGION_SCREENSHOTS=docs/pictures make test-browser
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from uuid import UUID

import httpx
import numpy as np
import pytest
from PIL import Image as Pillow
from playwright.sync_api import Page, expect
from studio import PATIENCE, Shots, Studio, browser_page, choose, field, press, sizes, studio, write

from flows.cli import main
from memory_bank import open_memory_bank

pytestmark = [pytest.mark.browser, pytest.mark.timeout(3 * PATIENCE)]

PROMPT = "a red cone on a wooden table"


@pytest.fixture(scope="module")
def running(tmp_path_factory) -> Iterator[Studio]:
    with studio(tmp_path_factory.mktemp("studio")) as found:
        yield found


@pytest.fixture
def page() -> Iterator[Page]:
    with browser_page() as found:
        yield found


@pytest.fixture
def shots() -> Shots:
    return Shots(os.environ.get("LEGION_SCREENSHOTS"))


@pytest.fixture
def bank(running, monkeypatch):
    monkeypatch.setenv("LEGION_HOME", str(running.log.parent / "home"))
    kept = open_memory_bank()
    yield kept
    kept.close()


def open_form(page: Page, running: Studio, name: str) -> None:
    page.goto(f"{running.prefect}/deployments/deployment/{running.deployment(name)}/run")


def submitted(page: Page, running: Studio) -> str:
    """Press the form's button; the id of the flow run that it starts."""
    return press(page, page.get_by_role("button", name="Submit"), "/create_flow_run$").json()["id"]


def open_question(page: Page, running: Studio, flow_run: str) -> None:
    """The dialog of a paused run, once its form is there."""
    page.goto(f"{running.prefect}/runs/flow-run/{flow_run}")
    running.until_asked(flow_run)
    page.get_by_role("button", name="Resume").first.click()
    field(page, "Your name").wait_for()


def answer(page: Page, decision: str, **typed: str) -> None:
    for title, text in typed.items():
        write(page, title.replace("_", " ").capitalize(), text)
    choose(page, "Decision", decision)
    press(page, page.get_by_role("dialog").get_by_role("button", name="Submit"), "/resume$")


def test_a_run_from_its_form_to_its_gallery(running, page, shots, bank) -> None:
    # The form says what is out of range, where it was typed.
    open_form(page, running, "regenerate")
    write(page, "Prompt", PROMPT)
    write(page, "Rounds", "99")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("99 is greater than the maximum of 50").first).to_be_visible()
    write(page, "Rounds", "2")
    write(page, "Seed", "7")
    shots.take(page, "ui-form")
    choose(page, "Ask for approval", "each-round")
    flow_run = submitted(page, running)

    # The run waits for a person, who sees the picture.
    assert running.until(flow_run, "PAUSED") == "PAUSED"
    open_question(page, running, flow_run)
    assert all(sizes(page, "data:image")) and sizes(page, "data:image")
    shots.take(page, "ui-question")
    answer(page, "reject", your_name="Ada", note="too plain")
    running.until_asked(flow_run, asked=2)
    open_question(page, running, flow_run)
    answer(page, "accept", your_name="Ada")
    running.until(flow_run, "COMPLETED")

    # The decision is kept, and the page shows the pictures.
    page.goto(f"{running.prefect}/runs/flow-run/{flow_run}")
    expect(page.get_by_text("Completed").first).to_be_visible()
    expect(page.get_by_text(f"regenerate · {PROMPT}").first).to_be_visible()
    shots.take(page, "ui-run")
    (kept,) = bank.runs(10)
    assert [(r.review.decision, r.review.who) for r in kept.rounds] == [("reject", "Ada"), ("accept", "Ada")]
    assert not kept.rounds[0].verdict.accepted and kept.rounds[1].verdict.accepted
    gallery = running.artifact(flow_run, "gallery-")
    address = f"{running.prefect}/artifacts/artifact/{gallery['id']}"
    page.goto(address)
    expect(page.get_by_text("rejected by Ada").first).to_be_visible()
    assert len(sizes(page, "data:image")) >= 2 and all(sizes(page, "data:image"))
    assert sizes(page, running.images) == [210]
    shots.take(page, "ui-gallery")
    assert running.artifact(flow_run, "scores-")["type"] == "table"

    # Whose browser does not reach the pictures is told so.
    page.route(f"{running.images}/**", lambda route: route.abort())
    page.goto(address)
    told = page.get_by_alt_text(re.compile("cannot be reached from this browser"))
    expect(told).to_be_visible()
    page.unroute_all()

    # The pictures' own page and the report.
    page.goto(running.images)
    assert all(sizes(page, running.images)) and sizes(page, running.images)
    page.get_by_text(PROMPT).click()
    expect(page.get_by_text("rejected by Ada").first).to_be_visible()
    assert all(sizes(page, "data:image"))
    shots.take(page, "ui-report")


def test_a_cancelled_run_keeps_its_round_and_goes_on(running, page, shots, bank) -> None:
    form = {"prompt": "a blue ball on a grey table", "rounds": 1, "run_id": "stopped"}
    flow_run = running.submit("regenerate", {**form, "approval": {"review": "final"}})
    running.until(flow_run, "PAUSED")
    page.goto(f"{running.prefect}/runs/flow-run/{flow_run}")
    page.get_by_role("button", name="Cancel").first.click()
    press(page, page.get_by_role("dialog").get_by_role("button", name="Confirm"), "/set_state$")
    running.until(flow_run, "CANCELLED")
    before = bank.load("stopped")
    assert before.rounds[0].image and before.rounds[0].verdict is None

    again = running.submit("regenerate", form)
    running.until(again, "COMPLETED")
    after = bank.load("stopped")
    assert after.status == "finished" and after.rounds[0].image == before.rounds[0].image
    assert after.rounds[0].seconds["image"] == before.rounds[0].seconds["image"]


def test_a_picture_is_repaired_by_its_form(running, bank) -> None:
    shown = np.full((64, 64, 3), 120, np.uint8)
    shown[16:48, 16:48] = (200, 40, 40)
    mask = np.zeros((64, 64), np.uint8)
    mask[24:40, 24:40] = 255
    folder = running.log.parent / "pictures"
    for name, pixels in (("box.png", shown), ("mask.png", mask)):
        Pillow.fromarray(pixels).save(folder / name)
    form = {"picture": "box.png", "mask": "mask.png", "prompt": PROMPT, "rounds": 1, "candidates": 1}
    flow_run = running.submit("inpaint", {**form, "run_id": "repaired"})
    running.until(flow_run, "COMPLETED")
    kept = bank.load("repaired")
    assert kept.status == "finished" and len(kept.rounds[0].repairs[0].candidates) == 1
    result = bank.image(kept.result)
    assert np.array_equal(result[~kept.support], shown[~kept.support])
    assert "(data:image/" in running.artifact(flow_run, "gallery-")["data"]


@pytest.mark.parametrize(
    ("name", "form", "said"),
    [
        ("benchmark", {"n": 2, "arms": "one-shot,regeneration", "budget": 2}, "regeneration"),
        ("evaluate", {"task": "localization", "limit": 4}, "mIoU"),
    ],
)
def test_a_table_is_made_by_its_form(running, name, form, said) -> None:
    flow_run = running.submit(name, form)
    running.until(flow_run, "COMPLETED")
    key = f"{name}-{UUID(flow_run).hex[-8:]}"
    found = running.artifacts(flow_run)
    (table,) = [item for item in found if item["key"] == key]
    assert "|" in table["data"] and said in table["data"]
    (bar,) = [item for item in found if item["type"] == "progress"]
    assert bar["data"] == 100
    pages = [item["data"] for item in found if item["key"] == f"{key}-page"]
    assert len(pages) == (name == "benchmark")
    for page in pages:
        address = re.search(rf"{running.images}/[^)\s]+", page)
        assert address is not None
        assert "<html" in httpx.get(address[0], timeout=60).raise_for_status().text


def test_a_defender_is_trained_by_its_form_and_goes_on_by_the_same_name(running) -> None:
    folder = running.log.parent / "pictures" / "scars"
    assert (
        main(
            ["tabletop", "export", "--format", "synthscars", "--split", "train", "--scenes", "8", str(folder)]
        )
        == 0
    )
    form = {"dataset": "scars", "name": "mine", "steps": 2, "batch_size": 2}
    flow_run = running.submit("train", form)
    running.until(flow_run, "COMPLETED")
    trained = running.log.parent / "home" / "trained" / "mine"
    assert (trained / "last" / "model.safetensors").is_file()
    said = running.all_messages(flow_run)
    kept = trained / ("best" if (trained / "best").is_dir() else "last")  # without held-out samples
    assert f"The checkpoint: {kept}" in said
    assert any(re.match(r"stage-1 .*loss [\d.]+.*: 2 of 2$", line) for line in said)
    (bar,) = [item for item in running.artifacts(flow_run) if item["type"] == "progress"]
    assert bar["data"] == 100
    assert {"legion", "kind:training"} <= set(running.api(f"flow_runs/{flow_run}")["tags"])

    # It has ended: the same name is the same training, and another length of it is refused in one line.
    running.until(running.submit("train", form), "COMPLETED")
    other = running.submit("train", {**form, "steps": 3})
    running.until(other, "FAILED")
    message = running.api(f"flow_runs/{other}")["state"]["message"]
    assert "mine" in message and "\n" not in message


def test_what_the_forms_refuse(running) -> None:
    path = f"{running.prefect}/api/deployments/{running.deployment('regenerate')}/create_flow_run"
    for wrong in ({"prompt": "a cone", "rounds": 99}, {"prompt": ""}, {"prompt": "a cone", "color": "red"}):
        answer = httpx.post(path, json={"parameters": {"form": wrong}}, timeout=60)
        assert answer.status_code == 409 and "Validation failed" in answer.text
    (running.log.parent / "pictures" / "notes.png").write_text("no picture at all")
    for named, problem in (("../ui.log", "is not below"), ("notes.png", "notes.png")):
        flow_run = running.submit("inpaint", {"picture": named})
        running.until(flow_run, "FAILED")
        assert problem in running.api(f"flow_runs/{flow_run}")["state"]["message"]

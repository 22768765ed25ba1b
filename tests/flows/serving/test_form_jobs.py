"""What the forms ask for becomes a job, and what no form may name."""

from __future__ import annotations

import datetime
import logging
import signal
import sys
import types

import numpy as np
import pytest
from PIL import Image as Pillow
from pydantic import ValidationError

from contracts.errors import InvalidInput, LegionError
from flows.jobs.inpainting import readable
from flows.serving.parameters import FORMS, InpaintingForm, RegenerationForm
from flows.serving.places import PICTURES_VARIABLE, Address, check_free, checked_url, inside
from flows.settings import prepare_prefect

MOMENT = datetime.datetime(2026, 11, 21, 7, 15, 2, tzinfo=datetime.UTC)


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """A folder that forms may name things in, with one picture."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    monkeypatch.setenv(PICTURES_VARIABLE, str(folder))
    Pillow.fromarray(np.full((32, 32, 3), 120, np.uint8)).save(folder / "cup.png")
    (tmp_path / "secret.png").write_bytes((folder / "cup.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def deployments():
    prepare_prefect()
    from flows.serving import deployments

    return deployments


# --- what a page shows --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(FORMS))
def test_every_field_explains_itself(name) -> None:
    schema = FORMS[name].model_json_schema()
    for field, facts in schema["properties"].items():
        assert facts.get("title") and facts.get("description"), f"{name}.{field}"
    assert FORMS[name].__doc__


def test_every_form_has_its_flow(deployments) -> None:
    assert [item.name for item in deployments.FLOWS] == list(FORMS)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rounds": 0},
        {"rounds": 51},
        {"seed": -1},
        {"seed": 2**53},
        {"prompt": ""},
        {"prompt": "x" * 2001},
        {"run_id": "../other"},
        {"modifier": "magic"},
        {"approval": {"review": "always"}},
        {"approval": {"minutes": 0}},
        {"color": "red"},
    ],
)
def test_values_out_of_range_are_refused_where_they_are_typed(wrong) -> None:
    with pytest.raises(ValidationError):
        RegenerationForm(**{"prompt": "a red cone", **wrong})


# --- forms as jobs ------------------------------------------------------------------------------------


def test_a_regeneration_form_is_a_job(deployments) -> None:
    form = RegenerationForm(
        prompt=" a red cone ",
        more_prompts=["a blue ball"],
        rounds=4,
        seed=5,
        steps=7,
        approval={"review": "final"},
    )
    job = deployments.regeneration_job(form, (MOMENT, "7f3a"))
    assert [(c.run_id, c.prompt, c.seed) for c in job.cases] == [
        ("20261121-071502-batch-7f3a-1", "a red cone", 5),
        ("20261121-071502-batch-7f3a-2", "a blue ball", 5),
    ]
    assert (job.rounds, dict(job.painter), dict(job.modifier)) == (4, {"steps": 7}, {})
    assert form.approval.asked().review == "final"


def test_an_inpainting_form_is_a_job(deployments, pictures) -> None:
    form = InpaintingForm(picture="cup.png", prompt="a cup", candidates=2, min_confidence=0.4)
    job = deployments.inpainting_job(form, (MOMENT, "7f3a"))
    (case,) = job.cases
    assert (case.run_id, case.path, case.prompt) == (
        "20261121-071502-cup-7f3a",
        str(pictures / "cup.png"),
        "a cup",
    )
    assert job.candidates == 2 and job.regions["min_confidence"] == 0.4
    whole = deployments.inpainting_job(InpaintingForm(picture="."), (MOMENT, "7f3a"))
    assert [case.path for case in whole.cases] == [str(pictures / "cup.png")]


def test_zero_leaves_the_profiles_own_threshold(deployments, pictures) -> None:
    from flows.profiles.loading import load_profile

    own = load_profile("tabletop").inpainting.regions.min_confidence
    job = deployments.inpainting_job(InpaintingForm(picture="cup.png"), (MOMENT, "7f3a"))
    assert job.regions["min_confidence"] == own


def test_what_a_run_returned_can_be_repaired(deployments, pictures, scripted) -> None:
    from flows.cli import main
    from memory_bank import open_memory_bank

    assert main(["regenerate", "a red cone", "--run-id", "first", "--no-prefect"]) == 0
    job = deployments.inpainting_job(InpaintingForm(picture="first"), (MOMENT, "7f3a"))
    (case,) = job.cases
    returned = open_memory_bank().load("first")
    assert case.prompt == "a red cone"
    assert (np.asarray(Pillow.open(case.path)) == open_memory_bank().image(returned.result)).all()


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "~/x.png", "way-out/secret.png"])
def test_nothing_outside_the_folder_can_be_named(deployments, pictures, name) -> None:
    (pictures / "way-out").symlink_to(pictures.parent)
    for form in (
        InpaintingForm(picture=name),
        InpaintingForm(picture="cup.png", mask=name),
        InpaintingForm(picture="cup.png", protect=name),
    ):
        with pytest.raises(InvalidInput, match="is not below .* start legion ui with another --pictures"):
            deployments.inpainting_job(form, (MOMENT, "7f3a"))


def test_lines_and_links_do_not_lead_outside(deployments, pictures) -> None:
    (pictures / "all.jsonl").write_text('{"image": "../secret.png"}\n')
    with pytest.raises(InvalidInput, match="is not below"):
        deployments.inpainting_job(InpaintingForm(picture="all.jsonl"), (MOMENT, "7f3a"))
    (pictures / "linked.png").symlink_to(pictures.parent / "secret.png")
    with pytest.raises(InvalidInput, match="is not below"):
        deployments.inpainting_job(InpaintingForm(picture="."), (MOMENT, "7f3a"))


def test_what_is_neither_a_picture_nor_a_run(deployments, pictures) -> None:
    with pytest.raises(InvalidInput, match="there is no cat.png below .*; nor is it the id of a run"):
        deployments.inpainting_job(InpaintingForm(picture="cat.png"), (MOMENT, "7f3a"))


def test_a_file_that_is_no_picture_is_left_out_with_its_reason(deployments, pictures) -> None:
    (pictures / "notes.png").write_text("no picture at all")
    job = deployments.inpainting_job(InpaintingForm(picture="notes.png"), (MOMENT, "7f3a"))
    usable, failures = readable(job)
    assert not usable.cases and "notes.png" in failures[0][1]


# --- commands behind forms ----------------------------------------------------------------------------


def test_a_command_is_heard_line_by_line(deployments) -> None:
    from flows.serving.relaying import PROGRESS, relay

    heard: list[str] = []
    code = "import sys; print('{}'); print('measuring: 3 of 10', file=sys.stderr)"
    assert relay([sys.executable, "-c", code], heard.append).strip() == "{}"
    assert heard == ["measuring: 3 of 10"]
    assert PROGRESS.search(heard[0]).groups() == ("3", "10")


def test_a_commands_lines_move_its_bar_and_its_table_is_a_page(deployments, monkeypatch, tmp_path) -> None:
    from flows.serving import relaying

    shown: list[tuple[str, str | float, str | None]] = []
    board = types.SimpleNamespace(
        put=lambda name, draw: shown.extend((page.kind, page.data, page.key) for page in draw())
    )
    told = ["looking", "measuring: 3 of 10", "stage-1 loss 0.4, lr 1e-05: 2 of 4"]
    monkeypatch.setattr(
        relaying, "relay", lambda _command, hear: [hear(line) for line in told] and '{"a": 1}'
    )
    monkeypatch.setattr(relaying, "get_run_logger", lambda: logging.getLogger(__name__))
    assert relaying.run_command(["train", "network", "scars"], board) == {"a": 1}
    assert shown == [("progress", share, None) for share in (0.0, 30.0, 50.0, 100.0)]

    shown.clear()
    monkeypatch.setenv("LEGION_IMAGE_URL", "http://box:4201")
    (tmp_path / "table.md").write_text("| arm |")
    for has_page in (False, True):
        relaying.publish("a table", "benchmark-1", tmp_path / "table.md", has_page, board)
    link = "[report: a table](http://box:4201/reports/benchmark-1/report.html)"
    table = ("markdown", "| arm |", "benchmark-1")
    assert shown == [table, table, ("markdown", link, "benchmark-1-page")]


def test_a_command_that_fails_says_why(deployments) -> None:
    from flows.serving.relaying import relay

    code = "import sys; sys.exit('error: no data set there')"
    with pytest.raises(LegionError, match="^no data set there$"):
        relay([sys.executable, "-c", code], lambda _: None)
    with pytest.raises(LegionError, match="ended with exit code 3"):
        relay([sys.executable, "-c", "raise SystemExit(3)"], lambda _: None)


@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN], ids=["usual", "ignored"])
def test_a_command_is_interrupted_with_its_flow(deployments, tmp_path, inherited) -> None:
    """Also where this process was told to ignore SIGINT, as what a script starts in the background is."""
    from flows.serving.relaying import HEARING, LEGION, relay

    assert LEGION.startswith(HEARING)
    told = tmp_path / "told"
    code = (
        f"{HEARING}import pathlib, sys, time\n"
        "try:\n    print('up', file=sys.stderr, flush=True)\n    time.sleep(60)\n"
        f"except KeyboardInterrupt:\n    pathlib.Path({str(told)!r}).touch()"
    )

    def cancel(_line: str) -> None:
        raise RuntimeError("cancelled")

    usual = signal.signal(signal.SIGINT, inherited)
    try:
        with pytest.raises(RuntimeError, match="cancelled"):
            relay([sys.executable, "-c", code], cancel)
    finally:
        signal.signal(signal.SIGINT, usual)
    assert told.exists()


# --- addresses ----------------------------------------------------------------------------------------


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=r"already in use\): end the program .* with --image-port"):
            check_free(Address("127.0.0.1", port), "the image server", "--image-port")
    for wrong in (0, 70000):
        with pytest.raises(InvalidInput, match="choose a port from 1 to 65535"):
            check_free(Address("127.0.0.1", wrong), "the image server", "--image-port")


def test_addresses_as_others_reach_them() -> None:
    assert Address("0.0.0.0", 80).url == "http://127.0.0.1:80" and Address("0.0.0.0", 80).public
    assert Address("::1", 80).url == "http://[::1]:80" and not Address("::1", 80).public
    assert checked_url("http://box:1/", "--server") == "http://box:1"
    for wrong in ("box:1", "file:///etc", "http://"):
        with pytest.raises(InvalidInput, match="write it as http://HOST:PORT"):
            checked_url(wrong, "--server")


def test_inside_follows_links(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    assert inside(tmp_path, "a") == tmp_path / "a"
    with pytest.raises(InvalidInput, match="there is no b below"):
        inside(tmp_path, "b")

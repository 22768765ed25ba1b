"""The inpainting flow on a temporary server: the plain loop's result, and one gallery per picture."""

from __future__ import annotations

import pytest
from PIL import Image as Pillow
from red_squares import assemble, picture, square_tools

from flows.jobs.approval import Audience
from flows.jobs.inpainting import execute, make_job, requests_for
from flows.profiles.loading import load_profile
from memory_bank import open_memory_bank

pytestmark = pytest.mark.prefect


def rows(run):
    regions = [
        (repair.prompt, repair.accepted, repair.reason, repair.picture, [c.seed for c in repair.candidates])
        for item in run.rounds
        for repair in item.repairs
    ]
    return run.result, [(r.image, r.result, r.outside, r.scores, r.verdict) for r in run.rounds], regions


def test_the_flow_gives_what_the_plain_loop_gives(server, tmp_path, monkeypatch) -> None:
    import httpx
    from prefect.settings import PREFECT_API_URL

    from flows.inpainting import inpaint_with_prefect

    assemble(monkeypatch, square_tools())
    for name, squares in {"a.png": ((4, 4, 8, 8), (20, 20, 26, 25)), "b.png": ()}.items():
        Pillow.fromarray(picture(*squares)).save(tmp_path / name)
    requests = requests_for([tmp_path / "a.png", tmp_path / "b.png"], "a wall", 3, None, None)
    regions = {"dilate_pixels": 1, "feather_pixels": 1}
    job = make_job("tabletop", load_profile("tabletop"), requests, "flown", regions=regions, candidates=2)
    events = []
    flown = inpaint_with_prefect(job, Audience(events.append))
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "other"))
    plain = execute(job, square_tools(), open_memory_bank())
    assert [rows(run) for run in flown] == [rows(run) for run in plain]
    assert events and len(flown[0].rounds[0].repairs) == 2

    def kept(what: str) -> list:
        return httpx.post(f"{PREFECT_API_URL.value()}/{what}/filter", json={}).raise_for_status().json()

    galleries = {row["key"]: row["data"] for row in kept("artifacts") if (row["key"] or "").startswith("gal")}
    assert set(galleries) == {"gallery-flown-1", "gallery-flown-2"}
    assert galleries["gallery-flown-1"].count("(data:image/jpeg") == 3
    assert "the square" in galleries["gallery-flown-1"]
    (flow_run,) = [row for row in kept("flow_runs") if row["name"] == "inpaint · 2 pictures"]
    assert flow_run["state"]["type"] == "COMPLETED"
    names = {row["name"] for row in kept("task_runs")}
    assert "paint · 2 pictures · round 1/2 · 4 regions" in names and "plan · 2 pictures · round 1/2" in names

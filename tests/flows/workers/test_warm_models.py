"""A worker that has its models loads nothing for the next run: not even the files need to be there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from contracts.records import Image
from controller.inpainting import InpaintingCase, inpaint
from controller.regeneration import regenerate
from flows.jobs import inpainting as inpainting_jobs
from flows.jobs import regeneration as jobs
from flows.profiles.loading import BUNDLED, load_profile
from flows.settings import CHECKOUT
from flows.workers import tools as by_workers
from flows.workers.models import perform, tool_of
from memory_bank import open_memory_bank

pytestmark = pytest.mark.slow
PARTS = ("generator", "inpainter", "defender", "scorer", "reporter")


@pytest.fixture
def profile(tmp_path) -> Path:
    """The bundled profile, with weights that can be taken away."""
    for part in PARTS:
        shutil.copytree(CHECKOUT / "tabletop" / "weights" / part, tmp_path / "tabletop" / "weights" / part)
    return shutil.copy(BUNDLED / "tabletop.toml", tmp_path / "own.toml")


def test_a_second_run_loads_no_model(profile, tmp_path, one_thread) -> None:
    name = str(profile)
    asked: list[str] = []

    def ask(part, method, tool, arguments):
        asked.append(part)
        return perform(name, {"part": part, "method": method, "tool": tool, "arguments": arguments}, tool_of)

    bank = open_memory_bank(f"sqlite:///{tmp_path}/bank.sqlite3", str(tmp_path / "store"))

    def paint(run_id: str) -> Image:
        job = jobs.make_job(name, load_profile(name), ["a red cone on a wooden table"], run_id, 7, 2)
        (run,) = regenerate(job.cases, by_workers.regeneration_tools(job, ask), bank, job.settings())
        return bank.image(run.result or "")

    def repair(run_id: str, picture: Image) -> str | None:
        request = inpainting_jobs.PictureRequest(tmp_path / "unused.png")
        job = inpainting_jobs.make_job(name, load_profile(name), [request], run_id, rounds=1)
        mask = np.zeros(picture.shape[:2], bool)
        mask[24:40, 24:40] = True
        case = InpaintingCase(run_id, picture, "a red cone on a wooden table", 7, mask)
        (run,) = inpaint([case], by_workers.inpainting_tools(job, ask), bank, job.settings())
        assert run.rounds[0].repairs
        return run.result

    first = paint("first")
    repaired = repair("first-repair", first)
    shutil.rmtree(tmp_path / "tabletop")
    assert np.array_equal(paint("second"), first)
    assert repair("second-repair", first) == repaired
    assert set(asked) == {"generator", "defender", "scorers", "modifier", "inpainter", "region modifier"}

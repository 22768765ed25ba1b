"""The commands of docs/deploy.md for a process work pool, given to a real server: the forms are announced to
it, and a worker of it does a run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from machines import Machine, prefect_server, until

from flows.settings import CHECKOUT
from memory_bank import open_memory_bank

pytestmark = [pytest.mark.slow, pytest.mark.prefect, pytest.mark.timeout(1800)]
FORMS = ("regenerate", "inpaint", "benchmark", "evaluate", "train")


def prefect(api: str, *words: str) -> str:
    """A command of Prefect's, as a person types it; what it says."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    environ = {**os.environ, "PREFECT_API_URL": api}
    done = subprocess.run(command, env=environ, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """The API of a server with a pool of that name, to which the forms are announced."""
    with prefect_server(tmp_path_factory.mktemp("center")) as api:
        prefect(api, "work-pool", "create", "gpu", "--type", "process")
        prefect(api, "deploy", "--all")
        yield api


def test_every_form_is_deployed_to_the_pool_and_pulls_nothing(pool) -> None:
    for name in FORMS:
        deployment = httpx.get(f"{pool}/deployments/name/{name}/gpu", timeout=60).raise_for_status().json()
        assert deployment["work_pool_name"] == "gpu"
        assert not deployment["pull_steps"]
        assert deployment["entrypoint"] == f"flows.serving.deployments.{name}"
        assert deployment["parameter_openapi_schema"]["required"] == ["form"]


def test_a_worker_of_the_pool_does_a_run_to_its_end(pool, tmp_path) -> None:
    form = {"prompt": "a red cone on a wooden table", "rounds": 1, "steps": 2, "run_id": "pooled"}
    box = Machine(tmp_path / "box", {"PREFECT_API_URL": pool})
    try:
        worker = box.start("pool", ["-m", "prefect", "worker", "start", "--pool", "gpu", "--limit", "1"])
        until(lambda: worker.said("started!"), "the pool's worker")
        said = prefect(pool, "deployment", "run", "regenerate/gpu", "--param", f"form={json.dumps(form)}")
        asked = re.search(r"UUID: (\S+)", said)
        assert asked is not None
        run = until(lambda: worker.said("started!") and ended(pool, asked[1]), "the run")
    finally:
        box.end()
    assert run["state"]["type"] == "COMPLETED", worker.log.read_text()[-4000:]
    assert run["work_pool_name"] == "gpu" and run["name"] == "regenerate · a red cone on a wooden table"
    place = box.folder / "home"
    bank = open_memory_bank(f"sqlite:///{place}/memory_bank.sqlite3", str(place / "store"))
    kept = bank.load("pooled")
    assert kept.status == "finished" and len(kept.rounds) == 1
    bank.close()


def ended(api: str, flow_run: str) -> dict[str, Any] | None:
    """The flow run, once it has ended."""
    run = httpx.get(f"{api}/flow_runs/{flow_run}", timeout=60).raise_for_status().json()
    return run if run["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

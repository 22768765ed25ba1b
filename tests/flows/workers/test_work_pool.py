"""The commands of docs/deploy.md that announce the forms to a process work pool, given to a real server."""

from __future__ import annotations

import os
import subprocess
import sys

import httpx
import pytest
from machines import prefect_server

from flows.settings import CHECKOUT

pytestmark = [pytest.mark.slow, pytest.mark.prefect, pytest.mark.timeout(1800)]
FORMS = ("regenerate", "inpaint", "benchmark", "evaluate", "train")


def prefect(api: str, *words: str) -> None:
    """A command of Prefect's, as a person types it."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", *words]
    environ = {**os.environ, "PREFECT_API_URL": api}
    done = subprocess.run(command, env=environ, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_form_is_deployed_to_the_pool_and_pulls_nothing(tmp_path) -> None:
    with prefect_server(tmp_path) as api:
        prefect(api, "work-pool", "create", "gpu", "--type", "process")
        prefect(api, "deploy", "--all")
        for name in FORMS:
            deployment = httpx.get(f"{api}/deployments/name/{name}/gpu", timeout=60).raise_for_status().json()
            assert deployment["work_pool_name"] == "gpu"
            assert not deployment["pull_steps"]
            assert deployment["entrypoint"] == f"flows.serving.deployments.{name}"
            assert deployment["parameter_openapi_schema"]["required"] == ["form"]

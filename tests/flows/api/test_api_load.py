"""Fifty programs at once, against a server process: all accepted or cleanly refused, none lost, memory
bounded."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from api_samples import PROMPT, png

PROGRAMS = 50
MEGABYTES = 150
"""What 50 pictures of 3 MB each would fill, had the server them in memory at once."""


@contextmanager
def server(folder: Path, queue: int) -> Iterator[tuple[str, int]]:
    """A server process with scripted tools; its address and process id."""
    script = Path(__file__).with_name("api_process.py")
    environment = {**os.environ, "LEGION_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(script), str(folder), str(queue)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.terminate()
            process.wait(30)


def peak(pid: int) -> float:
    """The most memory a process had so far, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) / 1000


@pytest.mark.slow
@pytest.mark.parametrize("queue", [100, 10])
def test_fifty_submissions_are_accepted_or_refused_and_none_is_lost(tmp_path, queue) -> None:
    with server(tmp_path, queue) as (address, _), httpx.Client(base_url=address, timeout=60) as client:

        def ask(seed: int) -> httpx.Response:
            key = {"Idempotency-Key": f"order-{seed}"}
            return client.post("/v1/regenerations", json=PROMPT | {"seed": seed}, headers=key)

        with ThreadPoolExecutor(PROGRAMS) as pool:
            answers = list(pool.map(ask, range(PROGRAMS)))
        counts = Counter(answer.status_code for answer in answers)
        assert counts[202] + counts[429] == PROGRAMS
        assert counts[202] == PROGRAMS if queue == 100 else counts[202] >= queue and counts[429] > 0
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)
        while any(answer.status_code == 429 for answer in answers):  # who was refused comes again
            time.sleep(0.2)
            answers = [ask(seed) for seed in range(PROGRAMS)]
        ids = {answer.json()["run_id"] for answer in answers}
        assert len(ids) == PROGRAMS
        while client.get("/v1/health").json() != {
            "status": "ok",
            "profile": "tabletop",
            "queued": 0,
            "running": 0,
        }:
            time.sleep(0.1)
        runs = client.get("/v1/runs?limit=100").json()["runs"]
        assert {run["run_id"] for run in runs} == ids
        assert {run["state"] for run in runs} == {"finished"}


@pytest.mark.slow
def test_memory_stays_bounded_while_fifty_programs_send_and_listen(tmp_path) -> None:
    content = png(np.random.default_rng(0).integers(0, 255, (1000, 1000, 3), np.uint8))
    assert len(content) > 3_000_000
    with server(tmp_path, 100) as (address, pid), httpx.Client(base_url=address, timeout=120) as client:
        first = client.post("/v1/pictures", content=content)
        before = peak(pid)

        def use(seed: int) -> int:
            sent = client.post("/v1/pictures", content=content + bytes([seed]))  # another digest each
            run = client.post("/v1/regenerations", json=PROMPT | {"seed": seed}).json()
            told = client.get(f"{run['links']['events']}").text
            assert told.rstrip().endswith('data: {"state": "finished"}')
            return sent.status_code

        with ThreadPoolExecutor(PROGRAMS) as pool:
            assert set(pool.map(use, range(PROGRAMS))) == {201}
        assert first.status_code == 201
        assert peak(pid) - before < MEGABYTES

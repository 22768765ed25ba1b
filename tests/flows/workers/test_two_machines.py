"""Two machines, each with a worker and an API server, one PostgreSQL, one S3 endpoint: twenty runs, while a
worker and an API server are killed. Every run finishes, and nothing that was kept is done twice."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest
from machines import Machine, database_server, object_store, prefect_server, until
from squares_world import tools

from contracts.seeds import derive_seed
from flows.jobs import regeneration as jobs
from flows.profiles.loading import load_profile
from memory_bank import SqlMemoryBank, open_memory_bank

pytestmark = [pytest.mark.slow, pytest.mark.prefect, pytest.mark.timeout(3000)]

RUNS = 20
ROUNDS = 2
SEED = 100


@pytest.fixture
def shared(tmp_path, monkeypatch):
    """What both machines are told."""
    with (
        database_server("prefect", "legion") as (prefect, legion),
        object_store("two-machines") as store,
        prefect_server(tmp_path, prefect.replace("postgresql:", "postgresql+asyncpg:")) as api,
    ):
        told = {**store, "PREFECT_API_URL": api, "LEGION_DATABASE_URL": legion, "LEGION_WORKER_SILENCE": "6"}
        for name, value in told.items():
            monkeypatch.setenv(name, value)
        yield told


@pytest.fixture
def machines(tmp_path, shared):
    both = [Machine(tmp_path / name, shared) for name in ("north", "south")]
    yield both
    for machine in both:
        machine.end()


def submit(address: str, seeds: range) -> list[str]:
    with httpx.Client(base_url=address, timeout=60) as client:
        body = {"prompt": "a red cone", "rounds": ROUNDS}
        answers = [client.post("/v1/regenerations", json=body | {"seed": seed}) for seed in seeds]
    assert {answer.status_code for answer in answers} == {202}
    return [answer.json()["run_id"] for answer in answers]


def states(address: str) -> Counter[str]:
    runs = httpx.get(f"{address}/v1/runs?limit=100", timeout=60).json()["runs"]
    return Counter(run["state"] for run in runs)


def in_the_record(bank: SqlMemoryBank, ids: list[str]) -> tuple[set[int], set[int]]:
    """Seeds of the pictures that are kept, and of those begun: waiting, with a worker, or painted by one and
    not kept yet."""
    rounds = [item for run in bank.runs() if run.run_id in ids for item in run.rounds]
    kept = {item.seed for item in rounds if item.image is not None}
    return kept, {item.seed for item in rounds} - kept


def test_every_run_finishes_and_nothing_is_done_twice(machines, tmp_path) -> None:
    north, south = machines
    dying = north.worker(SECONDS_EACH="0.3")
    steady = south.worker(SECONDS_EACH="0.1")
    (north_api, north_address), (_, south_address) = north.api(), south.api()
    for worker in (dying, steady):
        until(lambda worker=worker: worker.said("Subscribing to runs"), "a worker")
    ids = submit(north_address, range(SEED, SEED + RUNS // 2))
    ids += submit(south_address, range(SEED + RUNS // 2, SEED + RUNS))

    until(lambda: len(north.painted()) >= 2, "a picture of the worker that will be killed")
    dying.kill()
    bank = open_memory_bank()
    north_api.kill()
    (before, begun), at_kill = in_the_record(bank, ids), len(south.painted())
    _, north_address = north.api()

    def all_finished() -> bool:
        told = states(north_address) + states(south_address)
        assert not told["failed"] and not told["cancelled"]
        return told == Counter(finished=RUNS)

    until(all_finished, "twenty runs", 900)
    after = Counter(south.painted()[at_kill:])
    assert not before & set(after)  # what was kept is not painted again
    runs = [bank.load(run_id) for run_id in ids]
    assert {run.status for run in runs} == {"finished"}
    for run in runs:
        assert [item.seed for item in run.rounds] == [
            derive_seed(run.seed, i + 1) for i in range(len(run.rounds))
        ]
        for item in run.rounds:
            assert item.image and item.diagnosis is not None and item.scores and item.verdict is not None
    assert sorted(run.seed for run in runs) == list(range(SEED, SEED + RUNS))
    assert alone(tmp_path, runs[0]) == [item.image for item in runs[0].rounds]
    painted = Counter(north.painted() + south.painted())
    again = [seed for seed, times in painted.items() if times > 1]
    assert set(again) <= begun  # only what was claimed when they were killed
    assert set(painted) == {item.seed for run in runs for item in run.rounds}


def alone(tmp_path, run) -> list[str | None]:
    """The pictures of the same run on one machine, without workers."""
    bank = open_memory_bank(f"sqlite:///{tmp_path}/alone.sqlite3", str(tmp_path / "alone"))
    profile = load_profile("tabletop")
    job = jobs.make_job("tabletop", profile, [run.prompt], run.run_id, run.seed, ROUNDS)
    (same,) = jobs.execute(job, tools(), bank)
    return [item.image for item in same.rounds]

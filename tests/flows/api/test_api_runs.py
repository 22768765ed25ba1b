"""Runs asked for over HTTP: accepted once, done in batches, watched, cancelled, taken up again, fetched."""

from __future__ import annotations

import json
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import red_squares
from api_samples import PROMPT, Gate, client_of, ended, make_service, pixels, png, until
from starlette.testclient import TestClient

from contracts.errors import ModelError, RemoteError, StorageUnavailable
from flows.api import runner
from flows.api.app import create_app
from flows.api.queue import SubmissionQueue
from memory_bank import open_memory_bank


@pytest.fixture
def service(tmp_path, tools):
    return make_service(tmp_path / "api", tools, queue=30)


@pytest.fixture
def client(service):
    with client_of(service) as client:
        yield client


def submit(client, **changes):
    answer = client.post("/v1/regenerations", json=PROMPT | changes)
    assert answer.status_code == 202, answer.text
    return answer.json()["run_id"]


def test_a_run_is_accepted_done_and_fetched(client, service) -> None:
    answer = client.post("/v1/regenerations", json=PROMPT)
    assert answer.status_code == 202
    place = answer.headers["Location"]
    assert place == f"/v1/runs/{answer.json()['run_id']}"
    run = ended(client, answer.json()["run_id"])
    kept = service.bank.load(run["run_id"])
    assert run["state"] == "finished" and run["error"] is None and run["ended"] >= run["submitted"]
    assert [r["index"] for r in run["rounds"]] == [r.index for r in kept.rounds]
    assert run["best"] == kept.best.index
    assert np.array_equal(pixels(client.get(run["links"]["result"]).content), service.bank.image(kept.result))
    assert "<html" in client.get(run["links"]["report"]).text


def test_a_round_shows_its_picture_and_every_finding_with_its_mask(client, service) -> None:
    run = ended(client, submit(client))
    first = client.get(f"/v1/runs/{run['run_id']}/rounds/1").json()
    kept = service.bank.load(run["run_id"]).rounds[0]
    assert [f["phrase"] for f in first["found"]] == [f.phrase for f in kept.diagnosis.findings]
    assert first["findings"] == len(first["found"]) > 0
    for shown, finding in zip(first["found"], kept.diagnosis.findings, strict=True):
        assert tuple(shown["box"]) == finding.box
        assert np.array_equal(pixels(client.get(shown["mask"]).content) > 0, finding.mask)
    plain = pixels(client.get(first["picture"]).content)
    assert np.array_equal(plain, service.bank.image(kept.image))
    assert client.get(first["picture"] + "?marked=true").content != client.get(first["picture"]).content


def test_the_same_key_is_the_same_run(client) -> None:
    first, again = (
        client.post("/v1/regenerations", json=PROMPT, headers={"Idempotency-Key": "k-1"}) for _ in range(2)
    )
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["run_id"] == again.json()["run_id"]
    other = client.post("/v1/regenerations", json=PROMPT | {"seed": 8}, headers={"Idempotency-Key": "k-1"})
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert submit(client) != first.json()["run_id"]  # without a key, each request is a run of its own


def test_many_at_once_under_one_key_are_one_run(client) -> None:
    def ask(_):
        return client.post("/v1/regenerations", json=PROMPT, headers={"Idempotency-Key": "k-2"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(16)))
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [202]


def test_what_waits_is_worked_on_together_with_the_result_it_has_alone(client, tools, service) -> None:
    alone = ended(client, submit(client, seed=1))
    gate = Gate(tools.generator)
    first = submit(client, seed=9)
    assert gate.reached.wait(30)
    batch = [submit(client, seed=seed) for seed in (1, 2, 3)]
    assert client.get(f"/v1/runs/{batch[2]}").json()["waiting"] == 2
    before = len(tools.generator.requests)
    gate.open.set()
    runs = [ended(client, run_id) for run_id in (first, *batch)]
    assert {run["state"] for run in runs} == {"finished"}
    painted = [r.seed for r in tools.generator.requests[before:]]
    assert len(set(painted)) == len(painted)
    same = service.bank.load(batch[0]), service.bank.load(alone["run_id"])
    assert same[0].result == same[1].result
    assert same[0].best.index == same[1].best.index


def test_a_waiting_run_is_cancelled_at_once(client, tools) -> None:
    gate = Gate(tools.generator)
    first = submit(client)
    assert gate.reached.wait(30)
    second = submit(client, seed=8)
    assert client.post(f"/v1/runs/{second}/cancel").json()["state"] == "cancelled"
    gate.open.set()
    assert ended(client, first)["state"] == "finished"
    assert client.get(f"/v1/runs/{second}").json()["rounds"] == []


def test_a_cancelled_run_leaves_the_others_alone_and_goes_on_where_it_stood(client, tools) -> None:
    gate = Gate(tools.generator)
    ids = [submit(client, seed=seed) for seed in (1, 2)]
    assert gate.reached.wait(30)
    until(lambda: client.get(f"/v1/runs/{ids[0]}").json()["state"] == "running")
    assert client.post(f"/v1/runs/{ids[0]}/cancel").status_code == 202
    gate.open.set()
    assert ended(client, ids[1])["state"] == "finished"
    assert ended(client, ids[0])["state"] == "cancelled"
    assert client.post(f"/v1/runs/{ids[0]}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/runs/{ids[0]}/resume").status_code == 202
    assert ended(client, ids[0])["state"] == "finished"
    assert client.post(f"/v1/runs/{ids[0]}/resume").status_code == 409
    seeds = [request.seed for request in tools.generator.requests]
    assert len(set(seeds)) == len(seeds)  # nothing was painted twice


def test_one_that_fails_does_not_take_its_batch_along(client, tools, monkeypatch) -> None:
    paint = tools.generator.generate

    def fail(requests):
        if any("ball" in request.prompt for request in requests):
            raise ModelError("the painter knows no ball")
        return paint(requests)

    gate = Gate(tools.generator)
    first = submit(client)
    assert gate.reached.wait(30)
    monkeypatch.setattr(tools.generator, "generate", fail)
    bad = submit(client, prompt="a blue ball")
    good = [submit(client, seed=seed) for seed in (2, 3)]
    gate.open.set()
    assert [ended(client, run_id)["state"] for run_id in (first, *good)] == ["finished"] * 3
    failed = ended(client, bad)
    assert (failed["state"], failed["error"]) == ("failed", "the painter knows no ball")
    assert client.get(f"/v1/runs/{bad}/result").status_code == 404


def test_an_unexpected_error_keeps_its_secrets(client, tools, monkeypatch) -> None:
    def fail(_requests):
        raise RuntimeError("secret place")

    monkeypatch.setattr(tools.generator, "generate", fail)
    failed = ended(client, submit(client))
    assert failed["state"] == "failed"
    assert "RuntimeError" in failed["error"] and "secret" not in failed["error"]


def test_a_queue_that_cannot_be_written_for_a_moment_loses_no_run(
    client, service, tools, monkeypatch
) -> None:
    end, failures = service.queue.end, iter([sqlite3.OperationalError("database or disk is full")])

    def failing(*words) -> None:
        for error in failures:
            raise error
        end(*words)

    monkeypatch.setattr(service.queue, "end", failing)
    assert [ended(client, submit(client, seed=seed))["state"] for seed in (1, 2)] == ["finished"] * 2
    seeds = [request.seed for request in tools.generator.requests]
    assert len(set(seeds)) == len(seeds)  # what was done stays done


def test_what_nobody_expected_is_one_line_of_json(service, monkeypatch) -> None:
    monkeypatch.setattr(service, "health", lambda: 1 / 0)
    with TestClient(create_app(service), "http://127.0.0.1", raise_server_exceptions=False) as client:
        answer = client.get("/v1/health")
    assert answer.status_code == 500 and answer.json()["code"] == "unexpected"
    assert answer.json()["error"] == "unexpected ZeroDivisionError: the server's log has the details"


@pytest.mark.parametrize("error", [RemoteError("busy"), StorageUnavailable("away")], ids=repr)
def test_a_server_that_fails_is_asked_again(client, tools, monkeypatch, error) -> None:
    monkeypatch.setattr(runner, "RETRY_SECONDS", (0.0, 0.0))
    paint, failures = tools.generator.generate, [error, error]

    def sometimes(requests):
        if failures:
            raise failures.pop()
        return paint(requests)

    monkeypatch.setattr(tools.generator, "generate", sometimes)
    assert ended(client, submit(client))["state"] == "finished"
    assert not failures


def test_events_are_told_in_order_up_to_the_end_and_go_on_from_the_last_seen(client) -> None:
    run_id = submit(client)
    events = read_events(client, run_id)
    names = [name for _, name, _ in events]
    assert names[0] == "state" and names[-1] == "end" and names.count("end") == 1
    steps = [data["step"] for _, name, data in events if name == "step"]
    assert steps[:5] == ["paint", "diagnose", "score", "judge", "revise"]
    assert events[-1][2] == {"state": "finished"}
    later = read_events(client, run_id, events[4][0])
    assert later == events[5:]
    assert read_events(client, run_id, "another-3") == events


def test_the_events_of_a_run_of_an_earlier_server_are_its_end(client, service) -> None:
    run_id = submit(client)
    ended(client, run_id)
    service.notices._runs.clear()
    assert [(name, data) for _, name, data in read_events(client, run_id)] == [("end", {"state": "finished"})]


def read_events(client, run_id, last=""):
    """(id, name, data) of each event until the stream ends."""
    answer = client.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": last} if last else {})
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = [dict(line.split(": ", 1) for line in b.splitlines()) for b in answer.text.split("\n\n") if b]
    return [(b["id"], b["event"], json.loads(b["data"])) for b in blocks]


def test_a_picture_is_repaired_and_keeps_its_transparency(client) -> None:
    image = red_squares.picture((6, 6, 12, 12), (20, 20, 26, 26))
    layered = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    layered[:2] = 0
    sent = client.post("/v1/pictures", content=png(layered))
    assert sent.status_code == 201
    assert (sent.json()["width"], sent.json()["height"]) == (32, 32)
    asked = {"picture": sent.json()["picture"], "prompt": "a gray wall"}
    run = ended(client, client.post("/v1/inpaintings", json=asked).json()["run_id"])
    assert run["state"] == "finished"
    result = pixels(client.get(run["links"]["result"]).content)
    assert result.shape == (32, 32, 4) and not result[:2, :, 3].any()
    assert not red_squares.flawed(result[..., :3]).any()
    assert "<html" in client.get(run["links"]["report"]).text


def test_the_result_of_a_picture_that_was_removed_is_gone(client, service) -> None:
    sent = client.post("/v1/pictures", content=png(red_squares.picture((6, 6, 12, 12)))).json()["picture"]
    asked = {"picture": sent, "prompt": "a gray wall"}
    run = ended(client, client.post("/v1/inpaintings", json=asked).json()["run_id"])
    kept = Path(service.submission(run["run_id"]).job["cases"][0]["path"])
    kept.unlink()
    answer = client.get(run["links"]["result"])
    assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert kept.name not in answer.text


def test_a_mask_says_what_is_repainted(client) -> None:
    image = red_squares.picture((6, 6, 12, 12), (20, 20, 26, 26))
    mask = np.zeros((32, 32), np.uint8)
    mask[4:14, 4:14] = 255
    picture, marks = (client.post("/v1/pictures", content=png(x)).json()["picture"] for x in (image, mask))
    asked = {"picture": picture, "mask": marks, "prompt": "a gray wall"}
    run = ended(client, client.post("/v1/inpaintings", json=asked).json()["run_id"])
    result = pixels(client.get(run["links"]["result"]).content)
    changed = (result != image).any(axis=-1)
    assert changed.any() and not (changed & (mask == 0)).any()


def test_runs_are_listed_newest_first_page_by_page(client) -> None:
    ids = [submit(client, seed=seed) for seed in range(5)]
    for run_id in ids:
        ended(client, run_id)
    page = client.get("/v1/runs?limit=2&state=finished").json()
    assert [run["run_id"] for run in page["runs"]] == ids[:2:-1]
    rest = client.get(page["next"]).json()
    assert [run["run_id"] for run in rest["runs"]] == ids[2:0:-1]
    last = client.get(rest["next"]).json()
    assert [run["run_id"] for run in last["runs"]] == ids[:1] and last["next"] is None


def test_a_server_that_ends_takes_its_runs_up_at_the_next_start(tmp_path, tools, service) -> None:
    gate = Gate(tools.generator)
    with client_of(service) as client:
        ids = [submit(client, seed=seed) for seed in (1, 2, 3)]
        assert gate.reached.wait(30)
        threading.Timer(0.2, gate.open.set).start()
    painted = len(tools.generator.requests)
    assert painted
    with client_of(make_service(tmp_path / "api", tools)) as client:
        assert [ended(client, run_id)["state"] for run_id in ids] == ["finished"] * 3
    seeds = [request.seed for request in tools.generator.requests]
    assert len(set(seeds)) == len(seeds) > painted


def test_what_a_killed_server_was_working_on_waits_again(tmp_path) -> None:
    queue = SubmissionQueue(tmp_path / "queue.sqlite3", 10)
    queue.submit("regeneration", lambda: ("r-1", {"cases": []}), "digest", None)
    assert [item.run_id for item in queue.take(4)] == ["r-1"]
    queue._alone.close()  # as the system does when it dies
    again = SubmissionQueue(tmp_path / "queue.sqlite3", 10)
    assert [item.run_id for item in again.take(4)] == ["r-1"]


def test_two_servers_do_not_share_a_queue(tmp_path) -> None:
    SubmissionQueue(tmp_path / "queue.sqlite3", 10)
    with pytest.raises(Exception, match="another server works on the queue"):
        SubmissionQueue(tmp_path / "queue.sqlite3", 10)


def test_ids_that_meet_are_drawn_anew(tmp_path) -> None:
    queue = SubmissionQueue(tmp_path / "queue.sqlite3", 10)
    ids = iter(["r-1", "r-1", "r-2"])
    made = [queue.submit("regeneration", lambda: (next(ids), {"cases": []}), "d", None) for _ in range(2)]
    assert [item.run_id for item, _ in made] == ["r-1", "r-2"]


def test_runs_of_the_api_are_in_the_common_record(client) -> None:
    run_id = submit(client)
    ended(client, run_id)
    bank = open_memory_bank()
    assert bank.load(run_id).status == "finished"
    assert bank.job(run_id)["kind"] == "regeneration"

"""What the API refuses: no token, foreign pages, full queues, what is no picture, paths outside, too much of
anything. Each is one JSON object with a code and a line."""

from __future__ import annotations

import os
import re
import socket
import types
from pathlib import Path

import numpy as np
import pytest
import red_squares
import uvicorn
from api_samples import HEADERS, PROMPT, TOKEN, Gate, client_of, make_service, png

from contracts.errors import InvalidInput
from flows.api.settings import ApiSettings, allowed_folders, check_access, read_token
from flows.cli import main
from flows.commands import serve

PICTURE = png(red_squares.picture((6, 6, 12, 12)))


@pytest.fixture
def allowed(tmp_path):
    folder = tmp_path / "allowed"
    folder.mkdir()
    (folder / "good.png").write_bytes(PICTURE)
    (tmp_path / "secret.png").write_bytes(PICTURE)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pipe.png")
    return folder


@pytest.fixture
def client(tmp_path, tools, allowed):
    service = make_service(
        tmp_path / "api",
        tools,
        queue=3,
        upload_bytes=50_000,
        pictures_bytes=60_000,
        folders=allowed_folders((allowed,)),
    )
    with client_of(service) as client:
        client.service = service
        yield client


def refused(answer, status, code, words=""):
    assert answer.status_code == status, answer.text
    said = answer.json()
    assert said["code"] == code
    assert re.search(words, said["error"]) and "\n" not in said["error"]
    assert "/work" not in said["error"] and "/tmp" not in said["error"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "prompt: field required"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \u200b "}, "the prompt is empty"),
        ({"prompt": "x" * 4001}, "prompt"),
        ({"prompt": 7}, "prompt: input should be a valid string"),
        (PROMPT | {"rounds": 0}, "rounds: .*greater than or equal to 1"),
        (PROMPT | {"rounds": True}, "rounds"),
        (PROMPT | {"rounds": "3"}, "rounds"),
        (PROMPT | {"seed": -1}, "seed"),
        (PROMPT | {"seed": 2**53}, "seed"),
        (PROMPT | {"width": 100_000}, "width: .*2048"),
        (PROMPT | {"steps": 10_000}, "steps: .*200"),
        (PROMPT | {"guidance_scale": 1e9}, "guidance_scale"),
        (PROMPT | {"profile": "/etc/passwd"}, "profile is not known here"),
        ([], "the body"),
    ],
)
def test_a_request_that_cannot_be_used_is_one_line(client, body, words) -> None:
    refused(client.post("/v1/regenerations", json=body), 422, "invalid", words)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 60_000,
        b'{"prompt": NaN}',
        b'{"prompt": "a\\ud800b"}',
        b'{"seed": ' + b"9" * 9000 + b"}",
    ],
)
def test_a_body_that_is_not_json(client, body) -> None:
    answer = client.post("/v1/regenerations", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"code", "error"}


def test_a_body_of_another_kind(client) -> None:
    words = "the body is no JSON object: send one, with Content-Type: application/json"
    refused(client.post("/v1/regenerations", data={"prompt": "a cone"}), 422, "invalid", words)
    refused(client.post("/v1/regenerations", content=b'{"prompt": "a cone"}'), 422, "invalid", words)


def test_nothing_at_an_address(client) -> None:
    refused(client.get("/v2/runs"), 404, "not_found", "openapi.json")
    refused(client.get("/v1/runs/no-such-run"), 404, "not_found", "no run no-such-run")
    refused(client.get("/v1/runs/..%2f..%2fetc"), 404, "not_found")
    refused(client.delete("/v1/runs"), 405, "wrong_method")
    refused(client.get("/v1/runs?limit=0"), 422, "invalid", "limit")
    refused(
        client.get("/v1/runs?limt=5"), 422, "invalid", "'limt' is not known .*: it takes before, limit, state"
    )
    refused(client.get("/v1/health?x=1"), 422, "invalid", "it takes none")
    refused(client.get(f"/v1/runs/{'x' * 90}"), 422, "invalid")
    refused(client.get("/v1/" + "x" * 3000), 414, "path_too_long")


@pytest.mark.parametrize("key", ["", " ", "a b", "ä".encode(), "x" * 201])
def test_keys_that_cannot_be_used(client, key) -> None:
    refused(client.post("/v1/regenerations", json=PROMPT, headers={"Idempotency-Key": key}), 422, "invalid")


def test_a_full_queue_refuses_with_a_time_and_takes_what_it_knows(client, tools) -> None:
    gate = Gate(tools.generator)
    first = client.post("/v1/regenerations", json=PROMPT, headers={"Idempotency-Key": "first"})
    assert gate.reached.wait(30)
    for seed in range(3):
        assert client.post("/v1/regenerations", json=PROMPT | {"seed": seed}).status_code == 202
    full = client.post("/v1/regenerations", json=PROMPT)
    refused(full, 429, "queue_full", "3 runs are waiting")
    assert 1 <= int(full.headers["Retry-After"]) <= 600
    again = client.post("/v1/regenerations", json=PROMPT, headers={"Idempotency-Key": "first"})
    assert (again.status_code, again.json()["run_id"]) == (200, first.json()["run_id"])
    gate.open.set()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        PICTURE[:80],
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P6 9 9 255\n" + b"\0" * 243,
    ],
    ids=["empty", "text", "cut short", "PostScript", "PPM"],
)
def test_an_upload_that_is_no_picture(client, content) -> None:
    refused(client.post("/v1/pictures", content=content), 422, "bad_picture", "what was sent")
    assert not list((client.service.settings.folder / "pictures").iterdir())


def test_a_picture_that_is_too_large_in_bytes_or_pixels(client) -> None:
    refused(client.post("/v1/pictures", content=b"x" * 50_001), 413, "too_large", "50,000 bytes")
    refused(client.post("/v1/pictures", content=iter([b"x" * 30_000] * 2)), 413, "too_large")
    bomb = png(np.zeros((1, 1), np.uint8)).replace(b"\0\0\0\1\0\0\0\1", b"\0\0\xff\xff\0\0\xff\xff")
    refused(client.post("/v1/pictures", content=bomb), 422, "bad_picture")
    assert not list((client.service.settings.folder / "pictures").iterdir())


def test_pictures_have_room_for_so_many_and_the_same_one_again(client) -> None:
    noise = [png(np.random.default_rng(seed).integers(0, 255, (120, 120, 3), np.uint8)) for seed in (1, 2)]
    assert client.post("/v1/pictures", content=noise[0]).status_code == 201
    refused(client.post("/v1/pictures", content=noise[1]), 507, "no_room")
    assert client.post("/v1/pictures", content=noise[0]).status_code == 201


def test_a_body_that_is_no_picture_is_short(client) -> None:
    long = {"prompt": "a cone", "more": "x" * 70_000}
    refused(client.post("/v1/regenerations", json=long), 413, "too_large", "65,536")
    refused(client.post("/v1/regenerations", content=iter([b" " * 40_000] * 2)), 413, "too_large")


def test_a_path_is_read_inside_the_allowed_folders_alone(client, allowed, tmp_path) -> None:
    def ask(path):
        return client.post("/v1/inpaintings", json={"picture": str(path), "prompt": "a wall"})

    assert ask(allowed / "good.png").status_code == 202
    for path in (
        tmp_path / "secret.png",
        tmp_path / "not there.png",
        allowed / ".." / "secret.png",
        allowed / "link.png",
        "/etc/passwd",
        "good.png",
        "~/x.png",
        f"{allowed}/\0.png",
        "\\\\server\\x.png",
    ):
        refused(ask(path), 403, "outside", "not in a folder")
    refused(ask(allowed / "missing.png"), 404, "not_found")
    refused(ask(allowed / "pipe.png"), 404, "not_found")
    refused(ask("0" * 64), 404, "not_found", "send it first")
    (allowed / "text.png").write_text("no picture")
    refused(ask(allowed / "text.png"), 422, "bad_picture")


def test_what_was_submitted_is_repaired_whatever_becomes_of_the_file(client, allowed, tools) -> None:
    run = client.post("/v1/inpaintings", json={"picture": f"{allowed}/good.png", "prompt": "a wall"}).json()
    kept = client.service.submission(run["run_id"]).job["cases"][0]["path"]
    assert Path(kept).read_bytes() == PICTURE and not Path(kept).is_relative_to(allowed)


def test_masks_that_do_not_fit(client) -> None:
    picture = client.post("/v1/pictures", content=PICTURE).json()["picture"]
    for mask, words in (
        (np.full((9, 9), 255, np.uint8), "the mask .*9x9"),
        (np.zeros((32, 32), np.uint8), "empty"),
        (np.full((32, 32), 128, np.uint8), "looks like a picture"),
    ):
        named = client.post("/v1/pictures", content=png(mask)).json()["picture"]
        asked = {"picture": picture, "mask": named, "prompt": "a wall"}
        refused(client.post("/v1/inpaintings", json=asked), 422, "bad_mask", words)


def test_what_is_not_there_yet(client, tools) -> None:
    gate = Gate(tools.generator)
    run = client.post("/v1/regenerations", json=PROMPT).json()
    assert gate.reached.wait(30)
    place = run["links"]["self"]
    refused(client.get(f"{place}/result"), 409, "not_ended", "running")
    refused(client.get(f"{place}/report"), 409, "not_ended")
    refused(client.get(f"{place}/rounds/1/picture"), 404, "not_found", "yet")
    refused(client.get(f"{place}/rounds/9"), 404, "not_found", "no round 9")
    refused(client.get(f"{place}/rounds/1/findings/1/mask"), 404, "not_found")
    refused(client.post(f"{place}/resume"), 409, "not_stopped")
    assert "result" not in run["links"]
    gate.open.set()


def test_only_so_many_may_listen(client, tools, monkeypatch) -> None:
    import asyncio

    monkeypatch.setattr(asyncio.Semaphore, "locked", lambda self: True)
    run = client.post("/v1/regenerations", json=PROMPT).json()
    refused(client.get(run["links"]["events"]), 503, "too_many_listeners")


# --- who may ask -------------------------------------------------------------------------------------------


def test_a_token_is_needed_for_everything_but_health(tmp_path, tools) -> None:
    with client_of(make_service(tmp_path / "api", tools, token=TOKEN)) as client:
        assert client.get("/v1/health").status_code == 200
        for wrong in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": TOKEN},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": "Bearer ä".encode()},
        ):
            for method, path in (
                ("GET", "/v1/runs"),
                ("POST", "/v1/regenerations"),
                ("GET", "/v1/openapi.json"),
                ("GET", "/v1/nothing"),
            ):
                answer = client.request(method, path, headers=wrong)
                refused(answer, 401, "unauthorized", "Bearer TOKEN")
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert client.get("/v1/runs", headers=HEADERS).status_code == 200
        document = client.get("/v1/openapi.json", headers=HEADERS).json()
        assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        # With a token, names and pages do not matter: a page does not know it.
        assert client.get("/v1/runs", headers=HEADERS | {"Host": "paint.example"}).status_code == 200


def test_without_a_token_no_other_name_and_no_foreign_page(client) -> None:
    refused(client.get("/v1/runs", headers={"Host": "attacker.example"}), 403, "foreign_host")
    page = {"Origin": "https://attacker.example"}
    refused(client.post("/v1/runs/x/cancel", headers=page), 403, "foreign_page")
    refused(client.get("/v1/runs", headers={"Origin": "null"}), 403, "foreign_page")
    assert client.get("/v1/runs", headers={"Origin": "http://127.0.0.1"}).status_code == 200
    assert client.get("/v1/runs", headers={"Host": "[::1]:4280"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "paint.example"])
def test_who_can_be_reached_by_others_needs_a_token(tmp_path, host) -> None:
    with pytest.raises(InvalidInput, match="can be reached from other machines: put a token"):
        check_access(ApiSettings(tmp_path, host=host))
    check_access(ApiSettings(tmp_path, host=host, token=TOKEN))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_none(tmp_path, host) -> None:
    check_access(ApiSettings(tmp_path, host=host))


def test_tokens_come_from_a_file_or_the_environment(tmp_path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    assert read_token(file, {"LEGION_API_TOKEN": "x" * 20}) == TOKEN
    assert read_token(None, {"LEGION_API_TOKEN": "x" * 20}) == "x" * 20
    assert read_token(None, {}) == ""
    for text in ("", "short", "with space in it, long", "zu-kürzende-zeichen-ä"):
        file.write_text(text)
        with pytest.raises(InvalidInput) as caught:
            read_token(file, {})
        assert not text or text not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "put a token"),
        (
            ["--host", "no.such.host.invalid", "--token-file", "TOKEN"],
            "cannot listen on no.such.host.invalid",
        ),
        (["--port", "70000"], "--port is 70000"),
        (["--queue", "0"], "--queue is 0"),
        (["--max-upload", "0"], "--max-upload is 0"),
        (["--allow", "/no/such/folder"], "--allow /no/such/folder: there is no such folder"),
        (["--token-file", "/no/such/file"], "the token file /no/such/file cannot be read"),
        (["--profile", "tabletob"], "did you mean 'tabletop'"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(words, says, capsys, tmp_path, scripted) -> None:
    (tmp_path / "token").write_text(TOKEN)
    given = [str(tmp_path / "token") if word == "TOKEN" else word for word in words]
    assert main(["serve", "--port", "0", *given]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("error: ") and says in said.err


def test_a_port_in_use(capsys, scripted) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port)]) == 1
    assert f"cannot listen on 127.0.0.1, port {port} (address already in use)" in capsys.readouterr().err


def test_who_comes_as_soon_as_the_address_is_said_is_not_refused(monkeypatch, capsys) -> None:
    def come(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        assert "listening on http://127.0.0.1:" in capsys.readouterr().err
        socket.create_connection(sockets[0].getsockname(), 5).close()
        server.started = True

    monkeypatch.setattr(uvicorn.Server, "run", come)
    service = types.SimpleNamespace(settings=types.SimpleNamespace(connections=2))
    with serve._listener("127.0.0.1", 0) as listener:
        assert serve._run(service, None, listener, False) == 0  # type: ignore[arg-type]


def test_an_address_that_another_took_meanwhile_is_one_line() -> None:
    service = types.SimpleNamespace(settings=types.SimpleNamespace(connections=2))
    with serve._listener("127.0.0.1", 0) as late:
        with socket.socket() as first:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            first.bind(late.getsockname())
            first.listen()
            with pytest.raises(InvalidInput, match="choose another --port"):
                serve._run(service, None, late, False)  # type: ignore[arg-type]

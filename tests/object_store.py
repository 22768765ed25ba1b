"""A real S3 server of a test, which can go away and come back."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import httpx
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem


class Endpoint:
    """The server; it has the same address and the same pictures whenever it is started again."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        self.host, self.port = self._server.get_host_and_port()
        # All servers of a process share their buckets: another test's pictures are forgotten first.
        httpx.post(f"http://{self.host}:{self.port}/moto-api/reset").raise_for_status()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server = ThreadedMotoServer(self.host, self.port, verbose=False)
        self._server.start()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    """A server with one bucket, where the memory bank keeps its pictures."""
    endpoint = Endpoint()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{endpoint.host}:{endpoint.port}")
    for name, value in (("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test"), ("MAX_ATTEMPTS", "1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="pictures")
    S3FileSystem.clear_instance_cache()  # fsspec keeps them, with the address of another test's server
    monkeypatch.setenv("LEGION_STORE_URL", "s3://pictures/legion")
    yield endpoint
    endpoint.stop()

"""Order and isolation for the whole suite: fast tests first, then slow ones, then those with a server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from scripted_server import ScriptedServer

MARKS_IN_ORDER = ("slow", "prefect")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable sort by the latest mark an item carries, so that a broken basic is seen within seconds."""
    items.sort(
        key=lambda item: max(
            (MARKS_IN_ORDER.index(m) + 1 for m in MARKS_IN_ORDER if item.get_closest_marker(m)), default=0
        )
    )


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """No test reads or writes a person's runs."""
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "legion-home"))
    monkeypatch.delenv("LEGION_DATABASE_URL", raising=False)
    for variable in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LEGION_LLM_API_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture(autouse=True, scope="session")
def own_prefect(tmp_path_factory):
    """Nor a person's Prefect: own home, no server of theirs. Set before anything imports prefect."""
    os.environ["PREFECT_HOME"] = str(tmp_path_factory.mktemp("prefect-home"))
    os.environ.pop("PREFECT_API_URL", None)


@pytest.fixture
def scripted_server() -> Iterator[ScriptedServer]:
    """A real HTTP server that answers as the test says."""
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def one_thread():
    """Tiny models lose more by sharing their work among threads than they gain."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

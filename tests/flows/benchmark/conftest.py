"""A benchmark without weights."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_world import PROFILE, World


@pytest.fixture
def profile(tmp_path) -> Path:
    """A profile whose parts are scripted."""
    path = tmp_path / "squares.toml"
    path.write_text(PROFILE)
    return path


@pytest.fixture
def world(monkeypatch) -> World:
    """`flows.assemble` hands out scripted tools."""
    made = World()
    made.patch(monkeypatch)
    return made

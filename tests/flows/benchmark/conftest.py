"""A benchmark without weights."""

from __future__ import annotations

import os
import shutil
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


@pytest.fixture(scope="module")
def chromium():
    """A browser without a window; CHROMIUM names it where it is not found."""
    from playwright.sync_api import sync_playwright

    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()

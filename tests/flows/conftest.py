"""Scripted tools in the place of real ones, so that the command line runs without weights."""

from __future__ import annotations

import sys
import types

import pytest
from flow_samples import ScriptedDefender, ScriptedGenerator, ScriptedModifier, ScriptedScorer, Shelf

import flows
from controller.regeneration import RegenerationTools
from flows.settings import prepare_prefect


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def tools() -> RegenerationTools:
    generator = ScriptedGenerator()
    return RegenerationTools(
        generator=generator,
        defender=ScriptedDefender(generator),
        selection_scorer=ScriptedScorer(generator),
        reporting_scorers=(ScriptedScorer(generator, "reporter"),),
        modifier=ScriptedModifier(),
    )


@pytest.fixture
def scripted(tools, tmp_path, monkeypatch) -> RegenerationTools:
    """`flows.assemble` hands out scripted tools, and the current folder is an empty one."""
    module = types.ModuleType("flows.assemble")
    module.regeneration_tools = lambda profile, own_modifier=True: tools  # type: ignore[attr-defined]
    module.defender = lambda profile, **changes: tools.defender  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flows.assemble", module)
    monkeypatch.setattr(flows, "assemble", module, raising=False)
    monkeypatch.chdir(tmp_path)
    return tools


@pytest.fixture(scope="module")
def server():
    """A temporary Prefect server, with nothing in it but the module's own runs."""
    prepare_prefect()
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=600):
        yield

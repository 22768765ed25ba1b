"""Importing a painter imports no other one."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GENERATORS = ROOT / "controller" / "generators"
PAINTERS = {"diffusers_pipeline", "diffusers_inpainting", "remote_images"}


def imported(module):
    """Modules of the folder that this one needs when it is imported, its own imports' imports included."""
    tree = ast.parse((GENERATORS / f"{module}.py").read_text(encoding="utf-8"))
    direct = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "controller.generators":
            direct |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("controller.generators."):
            direct.add(str(node.module).split(".")[2])
    return direct.union(*(imported(name) for name in direct))


@pytest.mark.parametrize("module", sorted(path.stem for path in GENERATORS.glob("[!_]*.py")))
def test_importing_a_painter_imports_no_other(module):
    assert not imported(module) & PAINTERS


@pytest.mark.slow
@pytest.mark.parametrize("painter", sorted(PAINTERS))
def test_a_process_that_imports_a_painter_has_no_other(painter):
    """What the statements say is what happens: in a fresh interpreter, however modules are imported."""
    code = f"import sys, controller.generators.{painter}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in PAINTERS if f"controller.generators.{name}" in loaded} == {painter}
    assert "diffusers.pipelines" not in loaded  # their classes come when a checkpoint is loaded
    assert painter != "remote_images" or not loaded & {"torch", "transformers"}


def test_the_closure_sees_what_a_painter_does_import():
    assert {"lending", "pipelines", "loading", "hub", "shelf", "batching"} <= imported("diffusers_inpainting")
    assert not imported("remote_images")

"""Importing a painter imports no other one."""

import ast
from pathlib import Path

import pytest

GENERATORS = Path(__file__).resolve().parents[2] / "controller" / "generators"
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


def test_the_closure_sees_what_a_painter_does_import():
    assert {"lending", "pipelines", "loading", "hub", "shelf", "batching"} <= imported("diffusers_inpainting")
    assert not imported("remote_images")

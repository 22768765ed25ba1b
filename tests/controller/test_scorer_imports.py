"""Importing a scorer imports no other, and what needs no network does not load torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SCORERS = Path(__file__).resolve().parents[2] / "controller" / "scorers"
KINDS = {"clip", "hpsv2", "imagereward", "artifact_area"}


def imported(module):
    """Modules of the folder that this one needs when it is imported, its own imports' imports included."""
    tree = ast.parse((SCORERS / f"{module}.py").read_text(encoding="utf-8"))
    names = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    direct = {name.split(".")[2] for name in names if name.startswith("controller.scorers.")}
    return direct.union(*(imported(name) for name in direct))


@pytest.mark.parametrize("module", sorted(KINDS | {"kinds"}))
def test_importing_a_scorer_imports_no_other(module):
    assert not imported(module) & KINDS


def test_the_closure_sees_what_a_scorer_does_import():
    assert {"cosine", "scoring", "preprocessing", "signature"} <= imported("hpsv2")


@pytest.mark.parametrize("module", ["artifact_area", "kinds"])
def test_what_needs_no_network_does_not_load_torch(module):
    code = f"import sys, controller.scorers.{module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The house's rules about who may know whom, read from the imports themselves."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("contracts", "prompts", "servers", "defender", "controller", "memory_bank", "tabletop", "flows")

MAY_IMPORT = {
    "contracts": set(),
    "prompts": {"contracts"},
    "servers": {"contracts", "prompts"},
    "defender": {"contracts", "prompts", "servers"},
    "controller": {"contracts", "prompts", "servers"},
    "memory_bank": {"contracts", "prompts"},
    "tabletop": {"contracts", "prompts", "servers", "defender", "controller", "memory_bank"},
    "flows": {"contracts", "prompts", "servers", "defender", "controller", "memory_bank", "tabletop"},
}

HOMES = {
    "prefect": ("flows/",),
    # tabletop trains a pipeline and its autoencoder; using one is the generators' business alone.
    "diffusers": ("controller/generators/", "tabletop/"),
    "sqlalchemy": ("memory_bank/",),
    "openai": ("servers/",),
    "peft": ("defender/", "tabletop/"),
    "accelerate": ("defender/", "tabletop/"),
    "xllamacpp": ("servers/",),
}

CONCRETE = (
    "controller.generators",
    "controller.scorers",
    "controller.modifiers",
    "controller.llm_modifier",
    "defender.legion_defender",
    "defender.checkpoint",
)
"""Only flows/assemble.py may name these inside flows."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    files = sources(room)
    assert files, f"{room}/ has no files"
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files
        for module in imported(path)
        if (top := module.split(".")[0]) in ROOMS and top != room and top not in MAY_IMPORT[room]
    ]
    assert not wrong


@pytest.mark.parametrize("library", sorted(HOMES))
def test_heavy_libraries_have_one_home(library: str) -> None:
    strays = {
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS)
        for module in imported(path)
        if module.split(".")[0] == library and not str(path.relative_to(ROOT)).startswith(HOMES[library])
    }
    assert not strays


def test_contracts_needs_numpy_and_the_standard_library_only() -> None:
    tops = {module.split(".")[0] for path in sources("contracts") for module in imported(path)}
    assert tops - set(sys.stdlib_module_names) <= {"numpy", "contracts"}


def test_only_assemble_knows_concrete_classes() -> None:
    knowing = {
        path.name
        for path in sources("flows")
        for module in imported(path)
        if any(module == name or module.startswith(name + ".") for name in CONCRETE)
    }
    assert knowing == {"assemble.py"}


def test_no_room_reads_the_tests() -> None:
    assert not [p for p in sources(*ROOMS) for m in imported(p) if m.split(".")[0] in ("tests", "benchmarks")]


@pytest.mark.parametrize(
    "statement",
    [
        "import contracts.records, contracts.protocols, contracts.errors",
        "import prompts",
        "import memory_bank",
        "from flows.cli import build_parser; build_parser().format_help()",
    ],
)
def test_light_doors_do_not_load_torch_or_prefect(statement: str) -> None:
    heavy = "torch", "prefect", "diffusers", "transformers"
    code = f"{statement}\nimport sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_help_is_quick() -> None:
    """Half a second of the processor, whoever else wants it; the best of three."""

    def seconds() -> float:
        before = _processor_seconds()
        subprocess.run(
            [sys.executable, "-m", "flows.cli", "--help"], capture_output=True, cwd=ROOT, check=True
        )
        return _processor_seconds() - before

    assert min(seconds() for _ in range(3)) < 0.5


def _processor_seconds() -> float:
    """Of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

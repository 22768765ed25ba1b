"""Each example of docs/python.md runs exactly as it is written, in the order of the page, without Prefect."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tabletop.flaws import render_pair
from tabletop.scenes import SEED_RANGES

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text("utf-8"), re.M | re.S)
RUN_THEM = """
import sys
for number, example in enumerate(eval(sys.stdin.read()), start=1):
    print(f"-- {number}", flush=True)
    exec(compile(example, f"example {number}", "exec"), {"__name__": "__main__"})
assert "prefect" not in sys.modules
"""


def test_examples_are_short() -> None:
    assert len(EXAMPLES) == 6
    for example in EXAMPLES:
        assert len([line for line in example.splitlines() if line.strip()]) <= 6


@pytest.mark.slow
def test_examples_run_as_written(tmp_path) -> None:
    Image.fromarray(render_pair(SEED_RANGES["test"][0] + 100).flawed).save(tmp_path / "photo.png")
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "LEGION_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", RUN_THEM], input=repr(EXAMPLES), cwd=tmp_path, env=environ, text=True,
        capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    told = re.split(r"^-- \d\n", done.stdout, flags=re.M)[1:]
    assert re.search(r"^1 a red cone on a wooden table \[.*\] \w", told[1], re.M)
    assert told[4] == "finished (64, 64, 3)\n"
    assert told[5].startswith("unknown profile 'tabeltop': did you mean 'tabletop'")
    for name in ("cone.png", "repaired.png"):
        assert Image.open(tmp_path / name).size == (64, 64)
    assert len(list(tmp_path.glob("*.png"))) == 5

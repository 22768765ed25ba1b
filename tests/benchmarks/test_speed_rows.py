"""The rows of speed: prompts that take all rounds, and the memory of everything that a command started."""

import json
import subprocess
import sys

import pytest

from benchmarks.speed import Timing, _peak_memory, full_runs, rounds_painted, row


def test_only_prompts_that_took_all_rounds_stand_for_three_rounds():
    prompts, rounds = ["a", "b", "c", "d"], (3, 1, 3, 3)
    assert full_runs(prompts, rounds, 2) == ["a", "c"]
    assert full_runs(prompts, rounds, 9) == ["a", "c", "d"]
    with pytest.raises(RuntimeError, match="larger --batch"):
        full_runs(["a", "b"], (1, 2), 4)


def test_rounds_are_read_from_the_json():
    runs = {"runs": [{"rounds": [{}, {}]}, {"rounds": [{}]}]}
    assert rounds_painted(json.dumps(runs)) == (2, 1)


def test_a_row_says_how_many_rounds_were_painted():
    timings = [Timing(10.0, 600, (3,)), Timing(14.0, 700, (3,))]
    assert row("alone", timings) == "| alone | 3.0 | 12.0 s (10.0 to 14.0) | 700 MB |"
    assert row("together", [Timing(30.0, 900, (3, 1))]) == "| together | 4.0 | 30.0 s | 900 MB |"


def test_memory_of_what_a_command_starts_is_counted():
    child = "import time; held = bytearray(60_000_000); time.sleep(2.5)"
    command = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", command])
    assert _peak_memory(process) > 60e6
    assert process.returncode == 0

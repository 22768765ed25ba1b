"""Who shares a machine is not slowed by threads that wait for each other awake: set before PyTorch loads."""

import os
import subprocess
import sys

import pytest

SAY = "import os, sys, flows.cli; assert 'torch' not in sys.modules; print(os.environ.get('GOMP_SPINCOUNT'))"


@pytest.mark.parametrize(
    ("own", "expected"),
    [({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "None")],
)
def test_threads_wait_briefly_unless_a_person_says_otherwise(own, expected):
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", SAY], env={**environ, **own}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected

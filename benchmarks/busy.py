"""What another process on the same cores costs: painting beside others that compute, and alone.

    python -m benchmarks.busy
    python -m benchmarks.busy --others 4 --pictures 8

Ways of waiting take turns: as PyTorch's OpenMP does by itself, as `flows` asks it to, asleep at once, and
with one thread, which waits for nobody.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from statistics import median

WAYS: Mapping[str, Mapping[str, str]] = {
    "as OpenMP does by itself": {},
    "as the project asks (GOMP_SPINCOUNT=5000)": {"GOMP_SPINCOUNT": "5000"},
    "asleep at once (OMP_WAIT_POLICY=passive)": {"OMP_WAIT_POLICY": "passive"},
    "one thread (OMP_NUM_THREADS=1)": {"OMP_NUM_THREADS": "1"},
}
_BUSY = "import numpy as np\nx = np.ones((300, 300))\nwhile True:\n    x = x @ x / 300"
_PAINT = """
import sys, time
from contracts.records import GenerationRequest
from controller.generators.diffusers_pipeline import DiffusersGenerator

painter = DiffusersGenerator.load("tabletop/weights/generator", batch_size=8, exact=False)
requests = [GenerationRequest("a red cone on a wooden table", i) for i in range(int(sys.argv[1]))]
painter.generate(requests[:1])
begun = time.perf_counter()
painter.generate(requests)
print(time.perf_counter() - begun)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=4, help="painted in one batch")
    parser.add_argument("--others", type=int, default=os.cpu_count(), help="processes beside (one per core)")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    alone, beside = (_medians(others, args.repeats, args.pictures) for others in (0, args.others))
    print(f"| waiting | alone, s | beside {args.others} others, s | ratio |\n| --- | --- | --- | --- |")
    for way in WAYS:
        one, two = alone[way], beside[way]
        print(f"| {way} | {one:.1f} | {two:.1f} | {two / one:.1f} x |")


def _medians(others: int, repeats: int, pictures: int) -> dict[str, float]:
    """Seconds of each way beside so many others."""
    with _others(others):
        rounds = [{way: _seconds(pictures, how) for way, how in WAYS.items()} for _ in range(repeats)]
    return {way: median(seconds[way] for seconds in rounds) for way in WAYS}


def _seconds(pictures: int, way: Mapping[str, str]) -> float:
    """Of painting, in a process of its own that waits in this way."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    command = [sys.executable, "-c", _PAINT, str(pictures)]
    done = subprocess.run(command, env={**own, **way}, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


@contextmanager
def _others(count: int) -> Iterator[None]:
    """Processes that multiply matrices, one thread each, while the context lasts."""
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = [subprocess.Popen([sys.executable, "-c", _BUSY], env=alone) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()

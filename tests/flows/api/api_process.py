"""The API with scripted tools as a process of its own: `api_process.py FOLDER QUEUE` prints its address."""

from __future__ import annotations

import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "flows"), str(TESTS / "flows" / "api")]

from api_samples import listening, make_service, scripted_tools  # noqa: E402


def main(folder: str, queue: str) -> None:
    service = make_service(Path(folder) / "api", scripted_tools(), queue=int(queue))
    with listening(service) as address:
        print(address, flush=True)
        time.sleep(3600)


if __name__ == "__main__":
    main(*sys.argv[1:])

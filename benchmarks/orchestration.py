"""What Prefect costs: the same loop with it and without it, in turns, at steps that take half a second.

    python -m benchmarks.orchestration

The models are stand-ins that sleep, so that nothing but orchestration differs: tasks, states, the gallery and
the progress in Prefect's pages. A server of its own is started first, as a person would have one running.
Then the time until a fresh process has begun its first step, with that server and without Prefect. On a busy
machine wall time says more of the others; processor time, which is of the run's own process, does not.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from contracts.records import Diagnosis, Finding, Revision, Score
from controller.regeneration import RegenerationTools

ROUNDS = 3
SERVER_SECONDS = 1200
BEGUN = "first step after"


@dataclass(frozen=True)
class Cost:
    """Of a run, or of a process up to its first step, in seconds."""

    wall: float
    processor: float


class Sleeper:
    """A tool of any kind, whose work takes so many seconds."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name, self.seconds, self.calls = name, seconds, 0

    def generate(self, requests: Sequence[Any]) -> list[Any]:
        """Noise, by the seed."""
        time.sleep(self.seconds)
        return [
            np.random.default_rng(r.seed).integers(0, 256, (64, 64, 3)).astype(np.uint8) for r in requests
        ]

    def diagnose(self, images: Sequence[Any]) -> list[Diagnosis]:
        """Always a flaw, so that rounds follow, and each a smaller one, so that no run gives up."""
        time.sleep(self.seconds)
        self.calls += 1
        mask = np.zeros((64, 64), bool)
        mask[: max(1, 61 - self.calls), 20:30] = True
        return [Diagnosis((Finding(mask, "the edge", "it is bent", "structure", 0.9),)) for _ in images]

    def score(self, images: Sequence[Any], prompts: Sequence[str]) -> list[Score]:
        """The same for all."""
        time.sleep(self.seconds)
        return [Score(self.name, "1", 0.5) for _ in images]

    def revise(self, requests: Sequence[Any]) -> list[Revision]:
        """A word more."""
        time.sleep(self.seconds)
        return [Revision(f"{request.current_prompt}, sharp") for request in requests]

    def unknown_words(self, prompt: str) -> list[str]:
        """None."""
        return []

    def describe(self) -> dict[str, object]:
        """Its name."""
        return {"name": self.name}


def tools(seconds: float) -> RegenerationTools:
    """Every step of the loop that asks a model takes so long."""
    return RegenerationTools(
        generator=Sleeper("painter", seconds),
        defender=Sleeper("defender", seconds),
        selection_scorer=Sleeper("preference", seconds),
        reporting_scorers=(),
        modifier=Sleeper("modifier", seconds),
    )


def plain(asked: Any, made: RegenerationTools, listen: Callable[[Any], None]) -> None:
    """The loop by itself."""
    from flows.jobs.regeneration import execute
    from memory_bank import open_memory_bank

    execute(asked, made, open_memory_bank(), on_event=listen)


def with_prefect(asked: Any, made: RegenerationTools, listen: Callable[[Any], None]) -> None:
    """The flow around it."""
    from flows.settings import prepare_prefect

    prepare_prefect()
    import flows.tools
    from flows.jobs.approval import Audience
    from flows.regeneration import regenerate_with_prefect

    flows.tools.regeneration_tools = lambda _job: made  # type: ignore[assignment]
    regenerate_with_prefect(asked, Audience(listen))


WAYS = {"plain": plain, "prefect": with_prefect}


def job(run_id: str, rounds: int = ROUNDS) -> Any:
    """One prompt."""
    from flows.jobs.regeneration import make_job
    from flows.profiles.loading import load_profile

    return make_job("tabletop", load_profile("tabletop"), ["a red cone"], run_id, 7, rounds)


def run_cost(way: str, run_id: str, seconds: float, rounds: int) -> Cost:
    """One run from its call to its end."""
    asked = job(run_id, rounds)
    begun, worked = time.perf_counter(), time.process_time()
    WAYS[way](asked, tools(seconds), lambda _event: None)
    return Cost(time.perf_counter() - begun, time.process_time() - worked)


def first_step(way: str) -> Cost:
    """From the start of a process to its first step."""
    begun = time.time()
    command = [sys.executable, "-m", "benchmarks.orchestration", "--first", way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(BEGUN)]
    moment, processor = map(float, line.removeprefix(BEGUN).split())
    return Cost(moment - begun, processor)


def tell_first_step(way: str) -> None:
    """The child of `first_step`."""
    told: list[tuple[float, float]] = []
    run_id = f"first-{os.getpid()}"
    WAYS[way](job(run_id), tools(0.0), lambda _event: told.append((time.time(), time.process_time())))
    print(BEGUN, *told[0])


@contextmanager
def server(folder: str) -> Iterator[None]:
    """A Prefect server, of which this process and its children know."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    os.environ |= {"PREFECT_HOME": f"{folder}/prefect", "PREFECT_API_URL": api}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    with open(f"{folder}/server.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        end = time.monotonic() + SERVER_SECONDS
        while not answers(f"{api}/health"):
            if process.poll() is not None or time.monotonic() > end:
                sys.exit(f"Prefect's server did not start: {folder}/server.log")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    """Is somebody there?"""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="each step of a model takes")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each run")
    parser.add_argument("--runs", type=int, default=5, help="of each way")
    parser.add_argument("--json", action="store_true", help="the measured values as JSON")
    parser.add_argument("--first", choices=tuple(WAYS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.first:
        tell_first_step(arguments.first)
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEGION_HOME"] = f"{folder}/home"
        with server(folder):
            for way in WAYS:  # imports, tables and the first page
                run_cost(way, f"warm-up-{way}", 0.0, ROUNDS)
            pairs = [
                {way: run_cost(way, f"{way}-{n}", arguments.seconds, arguments.rounds) for way in WAYS}
                for n in range(arguments.runs)
            ]
            first = {way: [first_step(way) for _ in range(arguments.runs)] for way in WAYS}
    report(pairs, first, arguments)


def report(
    pairs: Sequence[Mapping[str, Cost]], first: Mapping[str, Sequence[Cost]], asked: argparse.Namespace
) -> None:
    """Medians and ranges; each pair was measured one right after the other."""
    if asked.json:
        values: dict[str, Any] = {
            "runs": [{way: asdict(cost) for way, cost in pair.items()} for pair in pairs],
            "first_step": {way: [asdict(cost) for cost in costs] for way, costs in first.items()},
        }
        print(json.dumps(values, indent=2))
        return
    more = [100 * (pair["prefect"].wall / pair["plain"].wall - 1) for pair in pairs]
    print(f"| {len(pairs)} runs of {asked.rounds} rounds, {asked.seconds:g} s a step | wall | processor |")
    print("| --- | --- | --- |")
    print(line("the loop alone", [pair["plain"] for pair in pairs]))
    print(line("as a Prefect flow, server running", [pair["prefect"] for pair in pairs]))
    print(f"| more than alone | {spread(more, 1)} % |  |")
    print(line("first step after launch, without Prefect", first["plain"]))
    print(line("first step after launch, server running", first["prefect"]))


def line(label: str, costs: Sequence[Cost]) -> str:
    """A row of the table."""
    processor = statistics.median(cost.processor for cost in costs)
    return f"| {label} | {spread([cost.wall for cost in costs], 2)} s | {processor:.2f} s |"


def spread(values: Sequence[float], digits: int) -> str:
    """Median, least and most."""
    middle, least, most = (f"{f(values):.{digits}f}" for f in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"


if __name__ == "__main__":
    main()

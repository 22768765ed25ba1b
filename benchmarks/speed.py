"""What a person waits for: `legion regenerate` from a warm install, and one batch against one by one.

    python -m benchmarks.speed                  minutes on two cores
    python -m benchmarks.speed --batch 4        a quick look

Wall seconds of whole commands, models loaded each time. The batch goes first and says how many rounds each
prompt takes: a run ends early where there is nothing left to repair. The row of one prompt is about prompts
that take all rounds, the same ones without Prefect and with its temporary server. Memory is that of the
command and of every process it started, the server among them, at the worst of ten moments in a second;
what they share is counted for each. Then seconds per picture of the generator alone, as the profile has it
and in batches of 16.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from contracts.records import GenerationRequest
from controller.generators.diffusers_pipeline import DiffusersGenerator
from flows.profiles.loading import load_profile
from tabletop import captions

PROMPT_SEED, SEED, ROUNDS = 9002, 7, 3
PICTURES = 16
_PAUSE = 0.1
_FAMILY_EVERY = 10
"""Looks at memory between two searches for new processes, which take longer."""


@dataclass(frozen=True)
class Timing:
    """One command."""

    seconds: float
    peak_mb: float
    """Of the command and all that it started, together."""
    rounds: tuple[int, ...]
    """Painted for each prompt."""


def timed(prompts: Sequence[str], *options: str) -> Timing:
    """Run `legion regenerate` in a process of its own, with a memory bank of its own.

    Raises RuntimeError if it fails.
    """
    words = ["regenerate", *prompts, "--rounds", str(ROUNDS), "--seed", str(SEED), *options]
    with tempfile.TemporaryDirectory() as home, open(Path(home) / "said", "w+") as said:
        start = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", *words, "--out", f"{home}/out", "--json"],
            env={**os.environ, "LEGION_HOME": home},
            stdout=said,
            stderr=subprocess.DEVNULL,
        )
        peak = _peak_memory(process)
        seconds = time.monotonic() - start
        if process.returncode != 0:
            raise RuntimeError(f"legion {' '.join(words)} ended with {process.returncode}")
        said.seek(0)
        return Timing(seconds, peak / 1e6, rounds_painted(said.read()))


def rounds_painted(output: str) -> tuple[int, ...]:
    """Rounds of each run, from what --json printed."""
    return tuple(len(run["rounds"]) for run in json.loads(output)["runs"])


def full_runs(prompts: Sequence[str], rounds: Sequence[int], most: int) -> list[str]:
    """The first `most` prompts that took all rounds. Raises RuntimeError if none did."""
    found = [prompt for prompt, painted in zip(prompts, rounds, strict=True) if painted == ROUNDS][:most]
    if not found:
        raise RuntimeError(f"none of {len(prompts)} prompts took {ROUNDS} rounds: give a larger --batch")
    return found


def _peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; the most bytes that it and its descendants held at one moment."""
    peak, looks, family = 0.0, 0, [psutil.Process(process.pid)]
    while process.poll() is None:
        if looks % _FAMILY_EVERY == 0:
            family = _family(process.pid)
        peak, looks = max(peak, sum(map(_resident, family))), looks + 1
        time.sleep(_PAUSE)
    return peak


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> float:
    try:
        return float(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0.0


def per_picture(batch: int, exact: bool) -> float:
    """Seconds per picture of the bundled generator, after one that nobody times."""
    section = load_profile("tabletop").generator
    generator = DiffusersGenerator.load(
        section.path,
        steps=section.steps,
        guidance_scale=section.guidance_scale,
        batch_size=batch,
        exact=exact,
    )
    prompts = captions.drawn_prompts(PICTURES, PROMPT_SEED)
    requests = [GenerationRequest(prompt, seed) for seed, prompt in enumerate(prompts)]
    generator.generate(requests[:1])
    start = time.monotonic()
    generator.generate(requests)
    return (time.monotonic() - start) / PICTURES


def row(what: str, timings: Sequence[Timing]) -> str:
    """Mean seconds and their range, the worst memory, and how many rounds there were."""
    seconds, painted = [t.seconds for t in timings], [sum(t.rounds) for t in timings]
    spread = f" ({min(seconds):.1f} to {max(seconds):.1f})" if len(seconds) > 1 else ""
    memory = max(t.peak_mb for t in timings)
    return f"| {what} | {np.mean(painted):.1f} | {np.mean(seconds):.1f} s{spread} | {memory:.0f} MB |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=16, help="prompts in one command")
    parser.add_argument("--singles", type=int, default=4, help="prompts of all rounds, with Prefect too")
    args = parser.parse_args()
    prompts = captions.drawn_prompts(args.batch, PROMPT_SEED)
    timed(prompts[:1], "--no-prefect")  # fills the disk cache
    batch = timed(prompts, "--no-prefect")
    chosen = full_runs(prompts, batch.rounds, args.singles)
    alone = {prompt: timed([prompt], "--no-prefect") for prompt in prompts}
    served = [timed([prompt]) for prompt in chosen]
    one_by_one = sum(timing.seconds for timing in alone.values())
    print("| what | rounds painted | seconds | peak memory |\n| --- | --- | --- | --- |")
    said = f"one prompt, {ROUNDS} rounds (mean of {len(chosen)} prompts)"
    print(row(f"{said}, `--no-prefect`", [alone[prompt] for prompt in chosen]))
    print(row(f"{said}, Prefect's temporary server", served))
    print(row(f"{args.batch} prompts in one command", [batch]))
    painted = sum(sum(timing.rounds) for timing in alone.values())
    print(f"| the same one by one | {painted} | {one_by_one:.1f} s | |")
    print(f"| times as fast together | | {one_by_one / batch.seconds:.1f} x | |")
    for size, exact in ((1, True), (PICTURES, False)):
        how = "exact, one per model call" if exact else f"{size} per model call, `exact = false`"
        print(f"| one picture, {how} | | {per_picture(size, exact):.2f} s | |")


if __name__ == "__main__":
    main()

"""What a person waits for: `legion regenerate` from a warm install, and one batch against one by one.

    python -m benchmarks.speed

Wall seconds of whole commands, models loaded each time; peak memory of the command itself (Prefect's
temporary server is another process and not counted). A run stops early where it would for a person. Then
seconds per picture of the generator alone, as the profile has it and in batches of 16.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.records import GenerationRequest
from controller.generators.diffusers_pipeline import DiffusersGenerator
from flows.profiles.loading import load_profile
from tabletop import captions

PROMPT_SEED = 9002
PICTURES = 16


@dataclass(frozen=True)
class Timing:
    """One command."""

    seconds: float
    peak_mb: float


def timed(arguments: Sequence[str], home: str) -> Timing:
    """Run `legion ARGUMENTS` in a process of its own."""
    command = [sys.executable, "-m", "flows.cli", *arguments, "--out", f"{home}/out", "--json"]
    # The child measures itself and its own children: a maximum over all children would keep the largest.
    wrapper = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
        "sys.exit(code)"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", wrapper, *command],
        env={**os.environ, "LEGION_HOME": home},
        capture_output=True,
        text=True,
        check=True,
    )
    return Timing(time.monotonic() - start, int(done.stdout.split()[-1]) / 1024)


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--singles", type=int, default=4, help="commands of one prompt to time")
    args = parser.parse_args()
    prompts = captions.drawn_prompts(args.batch, PROMPT_SEED)
    with tempfile.TemporaryDirectory() as home:
        plain = ["regenerate", "--rounds", "3", "--seed", "7", "--no-prefect"]
        timed([*plain, prompts[0]], home)  # fills the disk cache
        singles = [timed([*plain, p], home) for p in prompts[: args.singles]]
        batch = timed([*plain, *prompts], home)
        prefect = timed([w for w in [*plain, prompts[0]] if w != "--no-prefect"], home)
    alone = sum(t.seconds for t in singles) / len(singles)
    together = batch.seconds / args.batch
    print("| what | measured |\n| --- | --- |")
    print(f"| one prompt, --no-prefect | {alone:.1f} s, peak {max(t.peak_mb for t in singles):.0f} MB |")
    print(
        f"| one prompt, Prefect's temporary server | {prefect.seconds:.1f} s, peak {prefect.peak_mb:.0f} MB |"
    )
    print(f"| {args.batch} prompts in one command | {batch.seconds:.1f} s, peak {batch.peak_mb:.0f} MB |")
    print(f"| prompts per second, {args.batch} together against one by one | {alone / together:.1f} x |")
    for size, exact in ((1, True), (PICTURES, False)):
        print(f"| one picture, {size} per model call | {per_picture(size, exact):.2f} s |")


if __name__ == "__main__":
    main()

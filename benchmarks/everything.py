"""Every measurement that README and docs show, one after another, each answer kept as a file.

    python -m benchmarks.everything                              hours on two cores; goes on where it stopped
    python -m benchmarks.everything --only world,regeneration    a few of them
    python -m benchmarks.everything --list                       what there is, and what is of today's weights

`docs/measured/NAME.txt` holds the command, the weights that were there and what it printed. When one of the
models that it uses has other weights it is run again. What measures seconds comes last, and wants a machine
that does nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import WEIGHTS
from controller.checkpoints import weights_digest
from flows.profiles.loading import BUNDLED

FOLDER = Path("docs/measured")
SETTINGS = ("legion_defaults.json", "thresholds.json", "scheduler_config.json")
"""Beside the profile, what the models are used with."""
EVALUATION = frozenset({"defender", "generator"})
"""Its pictures are decoded by the generator's autoencoder."""
LOOP = EVALUATION | {"scorer", "reporter", "judge", "geometry"}
REPAIR = frozenset({"inpainter", "defender", "scorer", "reporter", "judge"})


@dataclass(frozen=True)
class Measurement:
    """A command, and the bundled models that it uses: with others of these it says something else."""

    command: str
    models: frozenset[str]


MEASUREMENTS = {
    "world": Measurement("python -m benchmarks.world", LOOP),
    "regeneration": Measurement("python -m benchmarks.regeneration", LOOP),
    "localization": Measurement("legion evaluate localization --format tabletop", EVALUATION),
    "explanation": Measurement("legion evaluate explanation --format tabletop", EVALUATION),
    "guidance": Measurement("legion evaluate guidance --format tabletop", EVALUATION),
    "detection": Measurement("legion evaluate detection --format tabletop", EVALUATION),
    "robustness": Measurement("legion evaluate robustness --format tabletop --limit 400", EVALUATION),
    "judge": Measurement("python -m benchmarks.judge", LOOP),
    "inpainting": Measurement(
        "python -m benchmarks.inpainting --keep build/repairs "
        "--arms guided,random,oracle,no-gate,upstream-way,upstream,upstream-script,drift --drift-n 80",
        REPAIR,
    ),
    "benchmark": Measurement(
        "legion benchmark --no-prefect --out out/benchmark-400 "
        "--arms one-shot,best-of-n,rewriting,regeneration,inpainting",
        LOOP | REPAIR,
    ),
    "experience": Measurement("python -m benchmarks.experience --folder build/experience", LOOP),
    "small-artifacts": Measurement("python -m benchmarks.small_artifacts", frozenset({"defender"})),
    # Seconds, which want a machine that does nothing else:
    "stages": Measurement(
        "python -m benchmarks.stages --pairs 6000 --warm-up 600 --steps 400", frozenset({"clip", "generator"})
    ),
    "speed": Measurement("python -m benchmarks.speed", frozenset({"generator"})),
    "defender-speed": Measurement("python -m benchmarks.defender", frozenset({"defender"})),
    "painting-cost": Measurement("python -m benchmarks.inpainting --n 1 --arms cost", REPAIR),
    "batching": Measurement("python -m benchmarks.batching", LOOP | REPAIR),
    "busy": Measurement("python -m benchmarks.busy", frozenset({"generator"})),
    "memory": Measurement("python -m benchmarks.memory", frozenset()),
    "renderer": Measurement("python -m benchmarks.renderer", frozenset()),
    "adapters": Measurement("python -m benchmarks.adapters", frozenset({"generator", "inpainter"})),
    "orchestration": Measurement("python -m benchmarks.orchestration", frozenset()),
}


def main() -> int:
    """0 if every measurement that was asked for came to its end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="names with commas between them")
    parser.add_argument("--list", action="store_true", help="print names and commands, and run nothing")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(MEASUREMENTS)
    if unknown := sorted(set(names) - set(MEASUREMENTS)):
        parser.error(f"there is no {', '.join(unknown)}: --list prints what there is")
    made_with = weights()
    if args.list:
        for name in names:
            print(f"{name:16} {state(name, made_with):18} {MEASUREMENTS[name].command}")
        return 0
    failed = [name for name in names if not measure(name, made_with)]
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def weights() -> str:
    """The bundled models, each with the first digits of its digest, and the same of all their settings."""
    folders = sorted(folder for folder in WEIGHTS.iterdir() if folder.is_dir())
    said = [f"{folder.name} {weights_digest(folder)[:8]}" for folder in folders]
    settings = hashlib.sha256((BUNDLED / "tabletop.toml").read_bytes())
    for name in SETTINGS:
        for path in sorted(WEIGHTS.rglob(name)):
            settings.update(path.read_bytes())
    return ", ".join([*said, f"settings {settings.hexdigest()[:8]}"])


def state(name: str, made_with: str) -> str:
    """Whether a measurement's answer is there, of this command and of these weights of the models it uses."""
    path = kept(name)
    if not path.is_file():
        return "not measured"
    command, then = path.read_text(encoding="utf-8").splitlines()[:2]
    wanted = MEASUREMENTS[name]
    if command != wanted.command:
        return "of another command"
    earlier, now = _digests(then), _digests(made_with)
    counting = {*wanted.models, "settings"} if wanted.models else ()
    same = all(earlier.get(part) == now.get(part) for part in counting)
    return "measured" if same else "of other weights"


def measure(name: str, made_with: str) -> bool:
    """Run one measurement, if its answer is not there already; whether the answer is there then."""
    path = kept(name)
    if state(name, made_with) == "measured":
        print(f"{name}: {path} is of these weights", flush=True)
        return True
    print(f"{name}: {MEASUREMENTS[name].command}", flush=True)
    command = _here(shlex.split(MEASUREMENTS[name].command))
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    # Where a bar is missed the exit code is 1, and the answer is an answer.
    if done.returncode not in (0, 1) or not done.stdout.strip():
        return False
    FOLDER.mkdir(parents=True, exist_ok=True)
    said = answer(done.stdout)
    head = f"{MEASUREMENTS[name].command}\n{made_with}\n"
    path.write_text(f"{head}\n{said}\nexit code {done.returncode}\n", encoding="utf-8")
    return True


def answer(printed: str) -> str:
    """What is kept of what a command printed: no path of this machine, and the tables that it wrote to a file
    in place of those it drew for a terminal, which have fewer digits."""
    written = re.search(r"^markdown: (.+)$", printed, re.M)
    tables = Path(written[1]).read_text(encoding="utf-8") if written else printed
    return tables.replace(f"{Path.cwd()}/", "").strip() + "\n"


def kept(name: str) -> Path:
    """The file of a measurement's answer."""
    return FOLDER / f"{name}.txt"


def _digests(made_with: str) -> dict[str, str]:
    """What `weights` said, by name."""
    return dict(part.split() for part in made_with.split(", "))


def _here(words: Sequence[str]) -> list[str]:
    """The command, run by this Python."""
    modules = {"python": [], "legion": ["-m", "flows.cli"]}
    return [sys.executable, *modules[words[0]], *words[1:]]


if __name__ == "__main__":
    sys.exit(main())

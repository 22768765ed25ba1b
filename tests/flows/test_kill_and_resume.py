"""kill -9 at any moment: the run goes on where it stood, repeats nothing that was kept, and ends the same."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from databases import Place, place, postgres
from red_squares import picture, square_tools
from sqlalchemy import event
from sqlalchemy.orm import Session

from contracts.protocols import PromptModifier
from contracts.records import Answer, Diagnosis, Finding, Review, Revision, Run, Score, Usage, Verdict
from controller.inpainting import InpaintingCase, InpaintingSettings, inpaint
from controller.regeneration import Case, RegenerationSettings, RegenerationTools, regenerate
from controller.regions import RegionSettings
from memory_bank import SqlMemoryBank, open_memory_bank
from memory_bank.database import Database
from memory_bank.store import ContentStore
from memory_bank.tables import Base

__all__ = ["place", "postgres"]

pytestmark = pytest.mark.slow
POINTS = 32
"""Moments at which each loop is killed, spread over all there are, and at least one within each step."""
TAKEN = Usage(1, 10, 5, 0.25)
"""What each answer of a modifier takes."""
MADE_BEFORE = {"jobs", "recollections"}
"""Tables whose rows name a run by its id, which may not have begun yet."""


class Tool:
    """Any part of the regeneration loop, keeping nothing: what it sees in a picture was painted into it."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def describe(self) -> Mapping[str, object]:
        return {"name": self.name}

    def unknown_words(self, prompt: str) -> list[str]:
        return []

    def generate(self, requests):
        self.calls += [f"paint {r.seed}" for r in requests]
        return [self._picture(r.prompt.count("lit"), r.seed) for r in requests]

    def diagnose(self, images):
        self.calls += [f"diagnose {image.tobytes().hex()[:40]}" for image in images]
        return [self._diagnosis(image) for image in images]

    def score(self, images, prompts):
        self.calls += [f"score {image.tobytes().hex()[:40]}" for image in images]
        return [Score(self.name, "1", float(image[0, 0, 0])) for image in images]

    def revise(self, requests):
        self.calls += [f"revise {r.current_prompt}" for r in requests]
        answers = (Answer("lit", "physics", "shadow"),)
        return [Revision(f"{r.current_prompt}, lit", usage=TAKEN, answers=answers) for r in requests]

    def _picture(self, quality: int, seed: int):
        image = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        image[0, 0] = quality
        return image

    def _diagnosis(self, image):
        mask = np.zeros((8, 8), dtype=bool)
        mask[: 6 - int(image[0, 0, 0])] = True
        return Diagnosis((Finding(mask, "shadow", "too dark", "physics", 0.5),), 0.5, "dark")


class Person:
    """Is asked about every round, and leaves it to the gate."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def __call__(self, run: Run, _proposed: Verdict) -> Review:
        self.calls += [f"ask {run.rounds[-1].index}"]
        return Review("gate", "a person", "2026-11-22T10:00:00+00:00")


class Paid:
    """A modifier whose every answer takes something."""

    def __init__(self, modifier: PromptModifier) -> None:
        self.name, self.describe, self._revise = modifier.name, modifier.describe, modifier.revise

    def revise(self, requests):
        return [replace(revision, usage=TAKEN) for revision in self._revise(requests)]


def run_regeneration(calls: list[str]) -> Run:
    roles = {"generator": "generator", "defender": "defender", "selection_scorer": "preference"}
    parts = {role: Tool(name, calls) for role, name in {**roles, "modifier": "modifier"}.items()}
    tools = RegenerationTools(reporting_scorers=(), **parts)
    settings = RegenerationSettings(rounds=4, batch_size=1, memory=True)
    bank = open_memory_bank()
    (run,) = regenerate([Case("killed", "a cone", 7)], tools, bank, settings, reviewer=Person(calls))
    bank.close()
    return run


def run_inpainting(calls: list[str]) -> Run:
    tools = square_tools()
    tools = replace(tools, modifier=Paid(tools.modifier))
    for tool in (tools.inpainter, tools.defender, tools.selection_scorer):
        tool.seen = calls  # a list that outlives the tool
    bank = open_memory_bank()
    case = InpaintingCase("killed", picture((4, 4, 8, 8), (20, 20, 26, 25)), "a gray wall", 3)
    settings = InpaintingSettings(
        rounds=2,
        candidates=2,
        batch_size=1,
        memory=True,
        regions=RegionSettings(dilate_pixels=1, feather_pixels=1),
    )
    (run,) = inpaint([case], tools, bank, settings, reviewer=Person(calls))
    bank.close()
    return run


def pictures_of(run: Run) -> list[str | None]:
    """Every digest of a run, and its words, in order."""
    found: list[str | None] = []
    for item in run.rounds:
        found += [item.prompt, item.image, item.result, item.outside]
        for repair in item.repairs or ():
            found += [repair.picture, repair.prompt, *(candidate.painted for candidate in repair.candidates)]
    return [*found, run.result]


def die_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kill this process at its `number`-th moment of danger; the moments so far."""
    seen: list[str] = []
    step = ["no step"]

    def moment(name: str) -> None:
        seen.append(f"{name}: {step[0]}")
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **values: Any) -> Any:
            moment(f"before {name}")
            result = real(*args, **values)
            moment(f"after {name}")
            return result

        monkeypatch.setattr(owner, name, wrapped)

    commit = SqlMemoryBank._commit

    def committing(
        bank: SqlMemoryBank, run_id: str, index: int, name: str, *args: Any, **values: Any
    ) -> None:
        step[0] = name
        commit(bank, run_id, index, name, *args, **values)
        step[0] = "no step"

    monkeypatch.setattr(SqlMemoryBank, "_commit", committing)
    around(Database, "write")
    around(ContentStore, "_write")
    around(os, "replace")  # before: the file is whole, under its temporary name
    around(os, "fsync")
    event.listen(Session, "before_commit", lambda _session: moment("in the transaction"))
    return seen


def in_a_child(work: Callable[[list[str]], Run], number: int, log: Path) -> bool:
    """Do it in a process that dies at its `number`-th moment, its model calls in `log`; whether it died."""
    child = os.fork()
    if child == 0:
        try:
            calls = Logged(log)
            die_at(number, pytest.MonkeyPatch())
            work(calls)
            os._exit(0)
        except BaseException as error:
            log.with_suffix(".error").write_text(repr(error))
            os._exit(1)
    _, status = os.waitpid(child, 0)
    error = log.with_suffix(".error")
    assert not error.exists(), error.read_text()
    return os.WIFSIGNALED(status)


class Logged(list):
    """A list whose items are in a file before the next line runs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def __iadd__(self, items):
        for item in items:
            os.write(self._file, f"{item!r}\n".encode())
        return super().__iadd__(items)


def wipe(place: Place) -> None:
    """All runs away, so that the next one begins anew."""
    for table in reversed(Base.metadata.sorted_tables):
        place.execute(f"DELETE FROM {table.name}")
    if place.is_sqlite:
        place.execute("INSERT INTO lesson_words (lesson_words) VALUES ('delete-all')")


def learned(place: Place) -> list[object]:
    """What the run taught and was told: every trial counted once, each sum that of its trials."""
    sums = place.execute(
        "SELECT l.category, l.topic, l.words, l.tried, l.gone, count(*), "
        "sum(CASE WHEN t.was_gone THEN 1 ELSE 0 END) "
        "FROM lessons l JOIN trials t ON t.lesson_pk = l.id "
        "GROUP BY l.id, l.category, l.topic, l.words, l.tried, l.gone ORDER BY 1, 2, 3"
    )
    assert sums and all(tried == trials and gone == were for *_, tried, gone, trials, were in sums)
    told = place.execute("SELECT round_index, region FROM recollections ORDER BY 1, 2")
    return [*sums, *told]


def orphans(place: Place) -> list[object]:
    """Rows of any table whose parent is not there, and rounds whose step was not committed."""
    found: list[object] = []
    for table in Base.metadata.sorted_tables:
        for key in table.foreign_keys:
            parent, child = key.column, key.parent
            found += place.execute(
                f"SELECT '{table.name}', id FROM {table.name} c WHERE NOT EXISTS "
                f"(SELECT 1 FROM {parent.table.name} p WHERE p.{parent.name} = c.{child.name})"
            )
        if table.name in MADE_BEFORE:
            found += place.execute(
                f"SELECT '{table.name}', id FROM {table.name} WHERE run_id NOT IN (SELECT run_id FROM runs)"
            )
    found += place.execute(
        "SELECT 'rounds', id FROM rounds r WHERE (SELECT count(*) FROM steps s WHERE s.run_pk = r.run_pk "
        "AND s.round_index = r.round_index AND s.step = 'open') <> 1"
    )
    return found


def steps_done(place: Place) -> list[object]:
    """Every step with the calls of its models, all but the time."""
    return place.execute(
        "SELECT s.round_index, s.step, s.region, s.candidate, c.ordinal, c.part, c.model, c.batch, "
        "c.requests, c.input_tokens, c.output_tokens, c.usd FROM steps s "
        "LEFT JOIN model_calls c ON c.step_pk = s.id ORDER BY s.id, c.ordinal"
    )


def spoiled(bank: SqlMemoryBank) -> list[object]:
    """Files of the store that are not whole, or that no row names, but for those under a temporary name; and
    those that are still there when nobody can be writing them any more."""
    store = bank._store
    unnamed = [file for file in bank.unreferenced() if file.digest]
    halves = [file for file in store.files() if file.digest and not store.holds(file.kind, file.digest)]
    left = [path for path in Path(store.root).rglob("*.tmp")]
    for path in left:
        os.utime(path, (0, 0))
    bank.collect()
    return [*unnamed, *halves, *(path for path in left if path.exists())]


def points_of(moments: list[str]) -> list[int]:
    """Numbers of moments, spread over all of them, with one in the transaction of every step."""
    spread = {round(x) for x in np.linspace(1, len(moments), POINTS)}
    inside = {name: at for at, name in enumerate(moments, start=1) if name.startswith("in the transaction")}
    return sorted(spread | set(inside.values()))


@pytest.mark.parametrize("work", [run_regeneration, run_inpainting])
def test_killed_anywhere_it_ends_the_same(
    place: Place, work: Callable[[list[str]], Run], tmp_path: Path
) -> None:
    open_memory_bank().close()
    whole: list[str] = []
    expected, lessons, steps = pictures_of(work(whole)), learned(place), steps_done(place)
    assert orphans(place) == []
    wipe(place)
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patched:
        moments = die_at(10**9, patched)
        work([])
    wipe(place)
    assert len(moments) > 2 * POINTS, "too few moments to choose from"
    steps_of = {str(row[1]) for row in steps}
    points = points_of(moments)
    assert steps_of <= {moments[number - 1].rpartition(": ")[2] for number in points}
    for number in points:
        for file in Path(os.environ["LEGION_HOME"]).glob("store/**/*.png"):
            file.unlink()
        log = tmp_path / f"calls-{number}"
        log.touch()
        assert in_a_child(work, number, log), f"moment {number} never came"
        again: list[str] = []
        run = work(again)
        said = f"killed {moments[number - 1]!r}, moment {number} of {len(moments)}"
        assert pictures_of(run) == expected and run.status == "finished", said
        done = Counter([*log.read_text().splitlines(), *map(repr, again)])
        surplus = done - Counter(map(repr, whole))
        assert sum(surplus.values()) <= 1, f"{said}: more was repeated than the step under way: {surplus}"
        assert not Counter(map(repr, whole)) - done, said
        assert learned(place) == lessons, said
        assert orphans(place) == [], said
        assert steps_done(place) == steps, said
        bank: SqlMemoryBank = open_memory_bank()
        assert bank.lost("killed") == [], said
        assert spoiled(bank) == [], said
        bank.close()
        wipe(place)

"""kill -9 at any moment: the run goes on where it stood, repeats nothing that was kept, and ends the same."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from databases import Place, place, postgres
from red_squares import picture, square_tools
from sqlalchemy import event
from sqlalchemy.orm import Session

from contracts.records import Answer, Diagnosis, Finding, Revision, Run, Score
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
"""Moments at which each loop is killed, spread over all there are."""


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
        return [Revision(f"{r.current_prompt}, lit", answers=answers) for r in requests]

    def _picture(self, quality: int, seed: int):
        image = np.random.default_rng(seed).integers(0, 256, (8, 8, 3)).astype(np.uint8)
        image[0, 0] = quality
        return image

    def _diagnosis(self, image):
        mask = np.zeros((8, 8), dtype=bool)
        mask[: 6 - int(image[0, 0, 0])] = True
        return Diagnosis((Finding(mask, "shadow", "too dark", "physics", 0.5),), 0.5, "dark")


def run_regeneration(calls: list[str]) -> Run:
    roles = {"generator": "generator", "defender": "defender", "selection_scorer": "preference"}
    parts = {role: Tool(name, calls) for role, name in {**roles, "modifier": "modifier"}.items()}
    tools = RegenerationTools(reporting_scorers=(), **parts)
    settings = RegenerationSettings(rounds=4, batch_size=1, memory=True)
    bank = open_memory_bank()
    (run,) = regenerate([Case("killed", "a cone", 7)], tools, bank, settings)
    bank.close()
    return run


def run_inpainting(calls: list[str]) -> Run:
    tools = square_tools()
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
    (run,) = inpaint([case], tools, bank, settings)
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

    def moment(name: str) -> None:
        seen.append(name)
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
    """Rows whose round or run is not there, and rounds whose step was not committed."""
    found: list[object] = []
    tables = ("findings", "scores", "verdicts", "revisions", "regions", "left_out", "results", "trials")
    for table in tables:
        found += place.execute(f"SELECT id FROM {table} WHERE round_pk NOT IN (SELECT id FROM rounds)")
    found += place.execute(
        "SELECT id FROM rounds r WHERE (SELECT count(*) FROM steps s WHERE s.run_pk = r.run_pk "
        "AND s.round_index = r.round_index AND s.step = 'open') <> 1"
    )
    return found


@pytest.mark.parametrize("work", [run_regeneration, run_inpainting])
def test_killed_anywhere_it_ends_the_same(
    place: Place, work: Callable[[list[str]], Run], tmp_path: Path
) -> None:
    open_memory_bank().close()
    whole: list[str] = []
    expected, lessons = pictures_of(work(whole)), learned(place)
    wipe(place)
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patched:
        moments = die_at(10**9, patched)
        work([])
    wipe(place)
    assert len(moments) > 2 * POINTS, "too few moments to choose from"
    points = sorted({round(x) for x in np.linspace(1, len(moments), POINTS)})
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
        bank: SqlMemoryBank = open_memory_bank()
        assert bank.lost("killed") == [], said
        assert all(not file.digest for file in bank.unreferenced()), said
        bank.close()
        wipe(place)

"""Runs at a glance: what is asked for comes, in the order asked for, without reading whole tables."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from bank_samples import BEGIN
from databases import Place
from sqlalchemy import event

from contracts.errors import InvalidInput
from contracts.records import Image, Symptom, Trial, Verdict
from memory_bank import SqlMemoryBank
from memory_bank.experience import LessonFilter
from memory_bank.listing import RunFilter
from memory_bank.upkeep import Place as PictureAt

Fill = Callable[[SqlMemoryBank, str, int], None]


@pytest.fixture
def three(bank: SqlMemoryBank, fill: Fill) -> SqlMemoryBank:
    """Three runs: `a` with two rounds and finished, `b` of a picture, `c` interrupted."""
    with bank.begin("a", **{**BEGIN, "prompt": "a Red cone"}):
        fill(bank, "a", 1)
        fill(bank, "a", 2)
        bank.finish("a", "finished")
    with bank.begin("b", **{**BEGIN, "kind": "inpainting", "prompt": ""}):
        bank.finish("b", "finished")
    with bank.begin("c_1", **{**BEGIN, "prompt": "50% of a blue ball"}):
        fill(bank, "c_1", 1)
    return bank


def ids(bank: SqlMemoryBank, **wanted: object) -> list[str]:
    return [run.run_id for run in bank.summaries(RunFilter(**wanted))]  # type: ignore[arg-type]


def test_a_summary_says_what_the_run_says(three: SqlMemoryBank) -> None:
    summary = three.summaries(RunFilter(text="red"))[0]
    run = three.load("a")
    assert (summary.run_id, summary.kind, summary.prompt, summary.seed) == (
        "a",
        "regeneration",
        "a Red cone",
        7,
    )
    assert (summary.status, summary.created) == (run.status, run.created)
    assert run.best is not None and (summary.rounds, summary.best) == (2, run.best.index)
    assert summary.seconds == pytest.approx(sum(sum(item.seconds.values()) for item in run.rounds))
    (empty,) = three.summaries(RunFilter(kind="inpainting"))
    assert (empty.rounds, empty.best, empty.seconds) == (0, None, 0.0)


def test_filters_and_orders(three: SqlMemoryBank) -> None:
    assert ids(three) == ["c_1", "b", "a"] and ids(three, order="oldest") == ["a", "b", "c_1"]
    assert ids(three, order="rounds") == ["a", "c_1", "b"]
    assert ids(three, order="prompt") == ["b", "c_1", "a"]
    assert ids(three, limit=2) == ["c_1", "b"] and ids(three, limit=0) == []
    assert ids(three, status="finished") == ["b", "a"] and ids(three, status="interrupted") == ["c_1"]
    assert ids(three, status="running") == []
    assert ids(three, text="RED") == ["a"] and ids(three, text="50%") == ["c_1"]
    assert ids(three, text="_") == ["c_1"], "an underscore is itself, not any character"
    assert ids(three, since="2020-01-01") == ["c_1", "b", "a"] and ids(three, since="2999") == []
    with three.begin("c_1", **{**BEGIN, "prompt": "50% of a blue ball"}):
        assert ids(three, status="running") == ["c_1"] and ids(three, status="interrupted") == []


def test_a_killed_run_is_interrupted(three: SqlMemoryBank, place: Place) -> None:
    place.execute(
        "UPDATE runs SET status = 'running', lease_holder = 'elsewhere:1:x', lease_expiry = 5 "
        "WHERE run_id = 'a'"
    )
    assert ids(three, status="interrupted") == ["c_1", "a"]
    assert three.summaries(RunFilter(text="Red"))[0].status == three.load("a").status == "interrupted"


@pytest.mark.parametrize("wanted", [{"kind": "other"}, {"status": "done"}, {"limit": -1}])
def test_what_nobody_could_mean(wanted: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        RunFilter(**wanted)  # type: ignore[arg-type]


def test_where_a_picture_belongs(three: SqlMemoryBank, picture: Callable[[int], Image]) -> None:
    digest = three.put_back("image", picture(1))
    assert three.places(digest) == [PictureAt("c_1", 1, "picture"), PictureAt("a", 1, "picture")]
    assert three.places("0" * 64) == []


def test_no_query_reads_a_whole_table_of_rounds(three: SqlMemoryBank, place: Place) -> None:
    if not place.is_sqlite:
        place.execute("ANALYZE")
    asked: list[tuple[str, object]] = []
    engine = three._database._engine
    event.listen(engine, "before_cursor_execute", lambda *a: asked.append((a[2], a[3])))
    hand = Symptom("structure", "hand", "the left hand")
    with three.begin("c_1", **{**BEGIN, "prompt": "50% of a blue ball"}):
        taught = [Trial("painter", hand, words, True) for words in ("five fingers", "")]
        three.open_round("c_1", 2, "p", 1)
        three.commit_verdict("c_1", 2, Verdict(True, ""), taught)
        three.recall("c_1", 2, 0, "painter", [hand])
    three.lessons(LessonFilter())
    three.summaries(RunFilter())
    three.load("a")
    three.places("0" * 64)
    assert len(asked) > 10
    with engine.connect() as connection:
        if not place.is_sqlite:  # it would rightly read tables of three rows whole
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        word = "EXPLAIN QUERY PLAN " if place.is_sqlite else "EXPLAIN "
        for statement, values in [a for a in asked if a[0].lstrip().startswith("SELECT")]:
            plan = [" ".join(map(str, row)) for row in connection.exec_driver_sql(word + statement, values)]
            whole = [
                line for line in plan if "Seq Scan" in line or ("SCAN" in line and "VIRTUAL" not in line)
            ]
            # Listings walk runs, newest first, or lessons, most tried first, and stop at their limit.
            walks = r"SCAN (runs|anon_\d+|lessons USING INDEX ix_lessons_tried)$"
            assert not [line for line in whole if not re.search(walks, line)], plan

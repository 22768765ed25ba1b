"""Runs at a glance: what is asked for comes, in the order asked for, without reading whole tables."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable

import numpy as np
import pytest
from bank_samples import BEGIN
from databases import Place
from sqlalchemy import event, insert, text
from sqlalchemy.orm import Session

from contracts.errors import InvalidInput
from contracts.records import Diagnosis, Finding, Image, Symptom, Trial, Verdict
from memory_bank import SqlMemoryBank
from memory_bank.experience import LessonFilter
from memory_bank.listing import ORDERS, Order, RunFilter
from memory_bank.tables import RunRow
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


def test_a_summary_of_a_run_without_a_prompt_says_what_was_found_surest_first(three: SqlMemoryBank) -> None:
    mask = np.ones((4, 4), bool)
    found = [Finding(mask, *said) for said in (("a", "", "structure", 0.2), ("b", "", "physics", 0.7))]
    with three.begin("d", **{**BEGIN, "kind": "inpainting", "prompt": ""}):
        three.open_round("d", 1, "", 1)
        three.commit_image("d", 1, np.zeros((4, 4, 3), np.uint8), 0.1)
        three.commit_diagnosis("d", 1, Diagnosis(tuple(found)), 0.1)
    assert [run.found for run in three.summaries(RunFilter())] == [("b", "a"), (), (), ()]


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


FILTERS: tuple[dict[str, str], ...] = (
    {}, {"kind": "inpainting"}, {"status": "finished"}, {"status": "running"}, {"status": "interrupted"},
    {"since": "2026-12"}, {"text": "2999"},
    {"kind": "inpainting", "text": "2999"}, {"status": "finished", "text": "2999"},
)  # fmt: skip
WALKS = {"newest": r"SCAN runs", "oldest": r"SCAN runs",
         "rounds": r"SCAN runs USING .*INDEX ix_runs_by_rounds",
         "prompt": r"SCAN runs USING INDEX ix_runs_by_prompt"}  # fmt: skip
"""Without a filter: in the order of the table, which is that of its ids, or of an index, up to the limit."""
SEEKS = {
    "kind": r"SEARCH runs USING .*INDEX ix_runs_by_kind_\w+ \(kind=\?\)",
    "finished": r"SCAN runs USING .*INDEX ix_runs_by_finished_\w+",
    "interrupted": r"SCAN runs USING .*INDEX ix_runs_by_open_\w+",
    "running": r"SEARCH runs USING INTEGER PRIMARY KEY \(rowid=\?\)",
    "since": r"SEARCH runs USING .*INDEX ix_runs_by_moment \(created>\?\)",
    "text": r"SCAN run_words VIRTUAL TABLE INDEX \d+:M2",
}
"""With one: an index that holds nothing else. Those of finished and of open runs hold only these."""
ON_SERVER = {
    "": {"newest": "runs_pkey", "oldest": "runs_pkey", "rounds": "by_rounds", "prompt": "by_prompt"},
    "kind": "by_kind_", "finished": "by_finished_", "interrupted": "by_open_", "running": "",
    "since": {"newest": "by_moment", "oldest": "by_moment", "rounds": "", "prompt": ""}, "text": "by_words",
}  # fmt: skip
"""A part of the name of PostgreSQL's index; where there is none, it may choose."""


@pytest.fixture
def many(bank: SqlMemoryBank, place: Place) -> SqlMemoryBank:
    """3,000 runs, few of them repairs, few unfinished."""

    def rows(session: Session) -> None:
        session.execute(
            insert(RunRow),
            [
                {
                    "run_id": f"run-{n}", "kind": "inpainting" if n % 500 == 0 else "regeneration",
                    "prompt": f"a Red cone, number {n}", "seed": 1, "settings": {},
                    "status": "interrupted" if n % 100 == 0 else "finished",
                    "created": f"2026-{1 + n * 12 // 3000:02d}-01", "round_count": n % 5,
                }
                for n in range(3000)
            ],
        )  # fmt: skip

    bank._database.write(rows)
    if not place.is_sqlite:
        place.execute("ANALYZE")
    return bank


def plan_of(bank: SqlMemoryBank, place: Place, wanted: RunFilter, part: str = "round_count") -> list[str]:
    """How the database answers the statement of a listing that has `part` in it."""
    asked: list[tuple[str, object]] = []

    def note(*told: object) -> None:
        asked.append((str(told[2]), told[3]))

    engine = bank._database._engine
    event.listen(engine, "before_cursor_execute", note)
    bank.summaries(wanted)
    event.remove(engine, "before_cursor_execute", note)
    statement, values = next(one for one in asked if part in one[0])
    word = "EXPLAIN QUERY PLAN " if place.is_sqlite else "EXPLAIN "
    with engine.connect() as connection:
        if not place.is_sqlite:  # it would rightly read a table of a few pages whole
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        lines = connection.exec_driver_sql(word + statement, values).all()  # type: ignore[call-overload]
    return [str(line[-1]).strip() for line in lines]


def test_every_filter_and_order_has_an_index(many: SqlMemoryBank, place: Place) -> None:
    order: Order
    for order, wanted in itertools.product(ORDERS, FILTERS):
        plan = plan_of(many, place, RunFilter(order=order, limit=20, **wanted))  # type: ignore[arg-type]
        part = "text" if "text" in wanted else next(iter(wanted), "")
        part = wanted["status"] if part == "status" else part
        if not place.is_sqlite:
            expected = ON_SERVER[part]
            name = expected if isinstance(expected, str) else expected[order]
            name = name if len(wanted) == 1 or not wanted else ""  # of two filters it takes the narrower
            assert not [line for line in plan if "Seq Scan on runs" in line], plan
            assert [line for line in plan if "Index" in line and name in line], (wanted, plan)
            continue
        narrow = SEEKS.get(part, WALKS[order])
        if part == "since" and order in ("rounds", "prompt"):
            narrow = WALKS[order]  # two dimensions: in the order asked for, passing over what is too old
        inner = plan[: next(at for at, line in enumerate(plan) if line.startswith("SCAN anon"))]
        assert any(re.fullmatch(narrow, line) for line in inner), (wanted, plan)
        others = [line for line in inner if "SCAN runs" in line and not re.fullmatch(narrow, line)]
        assert not others, (wanted, plan)
        # Sorted is only what a search lets through, and the runs of living processes.
        sorts = (part == "text" or part == "running") and order in ("rounds", "prompt")
        assert ("USE TEMP B-TREE FOR ORDER BY" in inner) is sorts, (wanted, plan)


def test_runs_of_living_processes_are_found_by_an_index(many: SqlMemoryBank, place: Place) -> None:
    (line, *_) = plan_of(many, place, RunFilter(), "lease_expiry")
    assert "ix_runs_lease_holder" in line


def test_a_search_finds_the_same_with_an_index_and_without(many: SqlMemoryBank) -> None:
    assert ids(many, text="NUMBER 2999") == ["run-2999"] and ids(many, text="un-2999") == ["run-2999"]
    assert ids(many, text="number 299", order="oldest") == [
        "run-299",
        *(f"run-{n}" for n in range(2990, 3000)),
    ]
    assert ids(many, text="number 299", order="rounds", limit=2) == ["run-2999", "run-2994"]
    assert ids(many, text='cone" OR "number') == [] and ids(many, text="cone* NEAR") == []
    assert ids(many, text="99", limit=1) == ["run-2999"], "too short for the index"
    assert ids(many, text="number 299", since="2026-12", limit=1) == ["run-2999"]
    assert len(ids(many, kind="inpainting", text="number 2", limit=50)) == 2


def test_a_round_that_begins_is_counted(bank: SqlMemoryBank, fill: Fill, place: Place) -> None:
    with bank.begin("a", **BEGIN):
        fill(bank, "a", 1)
        fill(bank, "a", 2)
    counted = "SELECT round_count, (SELECT count(*) FROM rounds WHERE run_pk = runs.id) FROM runs"
    assert place.execute(counted) == [(2, 2)]


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


def test_a_server_counts_looking_up_as_cheap_in_our_transactions_only(
    bank: SqlMemoryBank, place: Place
) -> None:
    """With its default it reads all model calls of all runs to sum up those of fifty."""
    if place.is_sqlite:
        return
    for transaction in (bank._database.read, bank._database.write):
        assert transaction(lambda session: session.scalar(text("SHOW random_page_cost"))) == "1.1"
    assert place.execute("SHOW random_page_cost") == [("4",)]

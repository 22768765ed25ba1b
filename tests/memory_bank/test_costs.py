"""What models took, and which files were made: kept with the step or the run, summed up, never twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from bank_samples import BEGIN
from databases import Place

from contracts.errors import AlreadyCommitted, InvalidInput, ModelError, RunNotFound
from contracts.records import Diagnosis, Image, ModelCall, Revision, Score, Usage
from memory_bank import SqlMemoryBank
from memory_bank.artifacts import Artifact, artifact
from memory_bank.costs import Cost, costs
from memory_bank.listing import RunFilter

LOOKED = Usage(calls=2, input_tokens=3_000, output_tokens=80, usd=0.002)
WROTE = Usage(calls=1, input_tokens=500, output_tokens=20, usd=0.0005)
SETTINGS = {
    "rounds": 2,
    "generator": {"name": "painter", "digest": "3f3f"},
    "defender": {"name": "vlm", "model": "seer-7b", "server": "example"},
    "selection_scorer": {"name": "preference", "weights": "abab"},
    "reporting_scorers": [{"name": "clip", "checkpoint": "cdcd"}],
    "modifier": {"name": "llm", "model": "writer-2"},
}


def begin(bank: SqlMemoryBank, run_id: str = "paid"):
    return bank.begin(run_id, **{**BEGIN, "settings": SETTINGS})


def pay(
    bank: SqlMemoryBank, image: Image, diagnosis: Diagnosis, run_id: str = "paid", index: int = 1
) -> None:
    """A round, each of whose steps calls its model."""
    bank.open_round(run_id, index, "p", index)
    bank.commit_image(run_id, index, image, 2.0, [ModelCall("generator", "painter", 2.0, 8)])
    look = ModelCall("defender", "vlm", 1.0, 4, LOOKED)
    bank.commit_diagnosis(run_id, index, replace(diagnosis, usage=LOOKED), 1.0, [look])
    scored = [ModelCall("scorer", "preference", 0.25, 8), ModelCall("scorer", "clip", 0.5, 8)]
    bank.commit_scores(run_id, index, [Score("preference", "1", 0.5)], 0.75, scored)
    wrote = [ModelCall("modifier", "llm", 0.5, 1, WROTE)]
    bank.commit_revision(run_id, index, Revision("p, lit", usage=WROTE), 0.5, wrote)


@pytest.fixture
def paid(bank: SqlMemoryBank, picture: Callable[[int], Image], diagnosis: Diagnosis) -> SqlMemoryBank:
    with begin(bank):
        pay(bank, picture(1), diagnosis)
        pay(bank, picture(2), diagnosis, index=2)
    return bank


def test_every_call_is_kept_with_its_step_and_its_model(paid: SqlMemoryBank) -> None:
    calls = paid.calls("paid")
    assert [(x.round, x.step, x.part, x.model, x.digest, x.batch, x.calls, x.seconds) for x in calls[:5]] == [
        (1, "image", "generator", "painter", "3f3f", 8, 1, 2.0),
        (1, "diagnosis", "defender", "seer-7b", None, 4, 2, 1.0),
        (1, "scores", "scorer", "preference", "abab", 8, 1, 0.25),
        (1, "scores", "scorer", "clip", "cdcd", 8, 1, 0.5),
        (1, "revision", "modifier", "writer-2", None, 1, 1, 0.5),
    ]
    assert [call.round for call in calls] == [1] * 5 + [2] * 5
    assert (calls[1].input_tokens, calls[1].output_tokens, calls[1].usd) == (3_000, 80, 0.002)
    assert all(call.at.startswith("20") for call in calls)
    assert paid.calls("another") == []


def test_usage_comes_back_with_what_it_bought(paid: SqlMemoryBank) -> None:
    for item in paid.load("paid").rounds:
        assert item.diagnosis is not None and item.diagnosis.usage == LOOKED
        assert item.revision is not None and item.revision.usage == WROTE


def test_sums_by_model_and_of_the_whole_run(paid: SqlMemoryBank) -> None:
    found = costs(paid.calls("paid"))
    assert [cost.part for cost in found] == ["generator", "defender", "scorer", "scorer", "modifier"]
    assert found[1] == Cost("defender", "seer-7b", None, 4, 6_000, 160, 0.004, 2.0)
    with paid.begin("free", **BEGIN):
        pass
    free, run = paid.summaries(RunFilter())
    assert (free.calls, free.tokens, free.usd) == (None, None, None)
    assert (run.calls, run.tokens, run.usd) == (12, 7_200, pytest.approx(0.005))
    assert run.seconds == pytest.approx(sum(cost.seconds for cost in found))


def test_a_step_that_is_committed_again_is_not_paid_again(
    paid: SqlMemoryBank, picture: Callable[[int], Image], place: Place
) -> None:
    before = paid.calls("paid")
    with begin(paid), pytest.raises(AlreadyCommitted):
        paid.commit_image("paid", 1, picture(1), 2.0, [ModelCall("generator", "painter", 2.0, 8)])
    assert paid.calls("paid") == before
    assert place.execute("SELECT count(*) FROM model_calls") == [(10,)]


def test_a_call_that_cannot_be_kept_keeps_the_step_from_being_committed(
    bank: SqlMemoryBank, picture: Callable[[int], Image]
) -> None:
    with begin(bank):
        bank.open_round("paid", 1, "p", 1)
        with pytest.raises(ModelError, match="time of painter is nan"):
            bank.commit_image(
                "paid", 1, picture(1), 1.0, [ModelCall("generator", "painter", float("nan"), 1)]
            )
    assert bank.load("paid").rounds[0].image is None and bank.calls("paid") == []


def test_a_tool_that_the_settings_do_not_know_goes_by_its_name(
    bank: SqlMemoryBank, picture: Callable[[int], Image]
) -> None:
    with bank.begin("bare", kind="regeneration", prompt="p", seed=1, settings={"scorers": [{"name": "x"}]}):
        bank.open_round("bare", 1, "p", 1)
        bank.commit_image("bare", 1, picture(1), 1.0, [ModelCall("generator", "painter", 1.0, 1)])
    (call,) = bank.calls("bare")
    assert (call.model, call.digest) == ("painter", None)


def test_files_are_known_by_run_and_by_their_bytes(paid: SqlMemoryBank, tmp_path: Path) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "round-1.png"
    page.write_text("one")
    picture.write_bytes(b"png")
    files = [artifact("paid", "report", page), artifact("paid", "picture", picture)]
    paid.keep_artifacts(files)
    paid.keep_artifacts(files)
    assert paid.artifacts("paid") == files and files[0].is_here and files[0].size == 3
    assert paid.files_with(files[1].digest) == [files[1]]
    page.write_text("two!")
    again = artifact("paid", "report", page)
    paid.keep_artifacts([again, Artifact(**{**vars(again), "machine": "another"})])
    kept = paid.artifacts("paid")
    assert [(x.kind, x.size, x.machine == "another") for x in kept] == [
        ("report", 4, False),
        ("picture", 3, False),
        ("report", 4, True),
    ]
    assert paid.files_with(files[0].digest) == [], "the file holds something else now"
    page.unlink()
    assert not kept[0].is_here


def test_files_of_no_run_are_refused(bank: SqlMemoryBank, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"png")
    with pytest.raises(RunNotFound, match="no run nobody"):
        bank.keep_artifacts([artifact("nobody", "picture", tmp_path / "x.png")])
    with pytest.raises(InvalidInput, match="cannot be read"):
        artifact("nobody", "picture", tmp_path / "none.png")

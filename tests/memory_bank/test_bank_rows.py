"""What goes into the memory bank comes out again, once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from bank_samples import BEGIN
from databases import Place
from sqlalchemy.exc import IntegrityError

from contracts.errors import (
    AlreadyCommitted,
    InvalidInput,
    MemoryBankError,
    ModelError,
    RunBusy,
    RunNotFound,
    SettingsChanged,
)
from contracts.records import Diagnosis, Finding, Image, ModelCall, Revision, Score, Usage, Verdict
from memory_bank import SqlMemoryBank, open_memory_bank

Fill = Callable[[SqlMemoryBank, str, int], None]


def same_finding(one: Finding, other: Finding) -> bool:
    rest = [f.name for f in fields(Finding) if f.name != "mask"]
    return np.array_equal(one.mask, other.mask) and all(getattr(one, n) == getattr(other, n) for n in rest)


def test_full_run_comes_back_identical(
    bank: SqlMemoryBank, fill: Fill, diagnosis: Diagnosis, picture: Callable[[int], Image]
) -> None:
    with bank.begin("run-1", **BEGIN) as fresh:
        assert fresh.rounds == () and fresh.status == "running"
        fill(bank, "run-1", 1)
        fill(bank, "run-1", 2)
        bank.finish("run-1", "finished")
    other = open_memory_bank()
    run = other.load("run-1")

    assert (run.run_id, run.kind, run.prompt, run.seed) == ("run-1", "regeneration", "a red cone", 7)
    assert run.settings == {"rounds": 3, "generator": {"steps": 12, "size": [64, 64]}}
    assert run.status == "finished" and run.created.endswith("+00:00")
    assert [r.index for r in run.rounds] == [1, 2]
    first, second = run.rounds
    assert (first.prompt, first.seed) == ("prompt 1", 2**63 - 1)
    assert first.image is not None and np.array_equal(other.image(first.image), picture(1))
    assert first.diagnosis is not None and len(first.diagnosis.findings) == 3
    for kept, given in zip(first.diagnosis.findings, diagnosis.findings, strict=True):
        assert kept.mask.dtype == np.bool_ and same_finding(kept, given)
    assert first.diagnosis.answer == diagnosis.answer and first.diagnosis.synthetic_probability == 0.75
    assert first.scores == (Score("preference", "1", 0.5), Score("other", "2", -1.0))
    assert first.verdict == Verdict(True, "better", None)
    assert second.verdict == Verdict(False, "better", "plateau")
    assert first.revision == Revision("next", ("dent", "missing shadow"), "rules")
    assert first.seconds == {"image": 1.5, "diagnosis": 0.5, "scores": 0.25, "revision": 0.125}
    assert run.best is not None and run.best.index == 1
    other.close()


def test_steps_not_committed_are_none_and_empty_ones_are_not(bank: SqlMemoryBank) -> None:
    with bank.begin("run", **BEGIN):
        bank.open_round("run", 1, "p", 1)
        blank = bank.load("run").rounds[0]
        assert (blank.image, blank.diagnosis, blank.scores, blank.verdict, blank.revision) == (None,) * 5
        bank.commit_diagnosis("run", 1, Diagnosis(()), 0.1)
        bank.commit_scores("run", 1, [], 0.1)
        done = bank.load("run").rounds[0]
    assert done.diagnosis is not None and done.diagnosis.findings == ()
    assert done.diagnosis.synthetic_probability is None and done.scores == ()


def test_every_step_is_committed_once(
    bank: SqlMemoryBank, fill: Fill, picture: Callable[[int], Image], place: Place
) -> None:
    with bank.begin("run", **BEGIN):
        fill(bank, "run", 1)
        again: list[Callable[[], object]] = [
            lambda: bank.open_round("run", 1, "other", 1),
            lambda: bank.commit_image("run", 1, picture(9), 1),
            lambda: bank.commit_diagnosis("run", 1, Diagnosis(()), 1),
            lambda: bank.commit_scores("run", 1, [Score("x", "1", 9.0)], 1),
            lambda: bank.commit_verdict("run", 1, Verdict(False, "other")),
            lambda: bank.commit_revision("run", 1, Revision("other"), 1),
        ]
        for commit in again:
            with pytest.raises(AlreadyCommitted, match="round 1 of run run was already committed"):
                commit()
        kept = bank.load("run").rounds[0]
    assert kept.prompt == "prompt 1" and kept.scores is not None and len(kept.scores) == 2
    assert kept.diagnosis is not None and len(kept.diagnosis.findings) == 3
    columns = "run_pk, round_index, step, region, candidate, committed_at"
    with pytest.raises(IntegrityError):  # the database itself refuses, not only our code
        place.execute(f"INSERT INTO steps ({columns}) SELECT {columns} FROM steps")


def test_a_failing_commit_leaves_nothing_of_its_step(bank: SqlMemoryBank, diagnosis: Diagnosis) -> None:
    with bank.begin("run", **BEGIN):
        bank.open_round("run", 1, "p", 1)
        broken = replace(
            diagnosis, findings=(*diagnosis.findings, replace(diagnosis.findings[0], phrase=None))
        )
        with pytest.raises(Exception, match="(?i)not.null"):
            bank.commit_diagnosis("run", 1, broken, 0.1)
        assert bank.load("run").rounds[0].diagnosis is None
        bank.commit_diagnosis("run", 1, diagnosis, 0.1)
    kept = bank.load("run").rounds[0].diagnosis
    assert kept is not None and len(kept.findings) == 3


def test_rounds_are_opened_in_order(bank: SqlMemoryBank) -> None:
    with bank.begin("run", **BEGIN):
        with pytest.raises(MemoryBankError, match="cannot open round 2: 1 is next"):
            bank.open_round("run", 2, "p", 1)
        with pytest.raises(MemoryBankError, match="no round 1"):
            bank.commit_verdict("run", 1, Verdict(True, ""))
        assert bank.open_round("run", 1, "p", 1).prompt == "p"


def test_resume_after_an_exception_goes_on_where_it_stopped(
    bank: SqlMemoryBank, fill: Fill, picture: Callable[[int], Image]
) -> None:
    with pytest.raises(KeyboardInterrupt), bank.begin("run", **BEGIN):
        fill(bank, "run", 1)
        bank.open_round("run", 2, "two", 2)
        digest = bank.commit_image("run", 2, picture(2), 1.0)
        raise KeyboardInterrupt
    assert bank.load("run").status == "interrupted"
    with bank.begin("run", **BEGIN) as run:
        assert run.status == "running" and len(run.rounds) == 2
        assert run.rounds[1].image == digest and run.rounds[1].diagnosis is None
        bank.commit_diagnosis("run", 2, Diagnosis(()), 1.0)
        bank.finish("run", "finished")
    with pytest.raises(ValueError), bank.begin("run", **BEGIN) as run:
        raise ValueError
    assert bank.load("run").status == "finished"


def test_a_run_left_without_an_end_is_not_running(bank: SqlMemoryBank) -> None:
    with bank.begin("run", **BEGIN):
        assert bank.runs()[0].status == "running"
    assert bank.runs()[0].status == "interrupted"


def test_leave_to_change_is_only_advised_where_it_helps(bank: SqlMemoryBank) -> None:
    changes: list[dict[str, object]] = [{"settings": {"rounds": 5}}, {"seed": 8}]
    for change, helps in zip(changes, (True, False), strict=True):
        with bank.begin("run", **BEGIN):
            pass
        with pytest.raises(SettingsChanged) as caught, bank.begin("run", **{**BEGIN, **change}):
            pytest.fail("began with other values")
        assert ("--accept-changes" in str(caught.value)) is helps
    with bank.begin("run", **BEGIN):
        bank.finish("run", "finished")
    with (
        pytest.raises(SettingsChanged, match="is finished") as caught,
        bank.begin("run", **BEGIN | changes[0]),
    ):
        pytest.fail("began with other values")
    assert "--accept-changes" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": "a blue cone"}, 'prompt was "a red cone", now "a blue cone"'),
        ({"seed": 8}, "seed was 7, now 8"),
        ({"kind": "inpainting"}, 'kind was "regeneration", now "inpainting"'),
        (
            {"settings": {"rounds": 5, "generator": {"size": (64, 64)}, "gate": True}},
            "settings.rounds was 3, now 5; settings.generator.steps is gone (was 12); settings.gate is new",
        ),
    ],
)
def test_other_values_are_refused_with_the_difference(
    bank: SqlMemoryBank, change: dict[str, object], words: str
) -> None:
    with bank.begin("run", **BEGIN):
        pass
    with pytest.raises(SettingsChanged) as caught, bank.begin("run", **{**BEGIN, **change}):
        pytest.fail("began with other values")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    with bank.begin("run", **BEGIN):  # the refusal left nothing behind
        pass


def test_newest_run_comes_first(bank: SqlMemoryBank, fill: Fill, home: Path) -> None:
    for name in ("b", "a", "c"):
        with bank.begin(name, **BEGIN):
            fill(bank, name, 1)
    with bank.begin("b", **BEGIN):
        pass
    assert [run.run_id for run in bank.runs()] == ["c", "a", "b"]
    assert [run.run_id for run in bank.runs(limit=2)] == ["c", "a"]
    assert bank.runs(limit=0) == []
    for mask in (home / "store" / "masks").rglob("*.png"):
        mask.unlink()
    listed = bank.runs()[0].rounds[0].diagnosis  # a listing survives lost masks
    assert listed is not None and [f.phrase for f in listed.findings][1] == "dent"
    assert listed.findings[0].area == 0.0
    with pytest.raises(MemoryBankError, match="missing"):
        bank.load("a")


@pytest.mark.parametrize("run_id", ["", "a b", "../up", "a/b", "x" * 65, "ü", "a\n"])
def test_ids_that_cannot_be_used(bank: SqlMemoryBank, run_id: str) -> None:
    with pytest.raises(InvalidInput, match="letters, digits"):
        bank.begin(run_id, **BEGIN)
    with pytest.raises(InvalidInput):
        bank.load(run_id)


@pytest.mark.parametrize(
    "change",
    [{"seed": -1}, {"seed": 2**63}, {"kind": "other"}, {"prompt": "a\0b"}, {"prompt": "\udcff"},
     {"settings": {"x": object()}}, {"settings": {"x": float("nan")}}],
)  # fmt: skip
def test_values_that_cannot_be_kept(bank: SqlMemoryBank, change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        bank.begin("run", **{**BEGIN, **change})
    assert bank.runs() == []


def test_unknown_run(bank: SqlMemoryBank) -> None:
    with pytest.raises(RunNotFound, match="no run nothing"):
        bank.load("nothing")
    with pytest.raises(RunNotFound):
        bank.open_round("nothing", 1, "p", 1)


def test_commits_need_the_run_to_be_held(bank: SqlMemoryBank) -> None:
    with bank.begin("run", **BEGIN):
        pass
    with pytest.raises(RunBusy, match="begin it"):
        bank.open_round("run", 1, "p", 1)


def test_numbers_that_cannot_be_compared_are_the_models_failure(
    bank: SqlMemoryBank, diagnosis: Diagnosis
) -> None:
    with bank.begin("run", **BEGIN):
        bank.open_round("run", 1, "p", 1)
        with pytest.raises(ModelError, match="preference is nan"):
            bank.commit_scores("run", 1, [Score("preference", "1", float("nan"))], 1)
        with pytest.raises(ModelError):
            bank.commit_diagnosis("run", 1, replace(diagnosis, synthetic_probability=float("inf")), 1)


def test_importing_the_memory_bank_does_not_load_torch() -> None:
    code = "import sys, memory_bank; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_a_language_model_took_is_kept_with_the_revision(bank: SqlMemoryBank) -> None:
    taken = Usage(calls=2, input_tokens=1_200, output_tokens=90, usd=0.00048)
    with bank.begin("paid", kind="regeneration", prompt="p", seed=1, settings={}):
        bank.open_round("paid", 1, "p", 1)
        call = ModelCall("modifier", "llm", 0.5, 1, taken)
        bank.commit_revision("paid", 1, Revision("p, lit", ("shadow",), "why", taken), 0.5, [call])
        bank.open_round("paid", 2, "p, lit", 2)
        bank.commit_revision("paid", 2, Revision("p, lit, sharp"), 0.5)
    first, second = bank.load("paid").rounds
    assert first.revision is not None and first.revision.usage == taken
    assert second.revision is not None and second.revision.usage == Usage()

"""Calls of models through a shared store: answered, refused, taken back, and given to another worker when one
dies. Workers are threads here; test_two_machines.py has processes."""

from __future__ import annotations

import threading
import uuid

import numpy as np
import pytest
import red_squares

from contracts.errors import CheckpointError, InvalidInput, LegionError, ModelError, RemoteError
from contracts.records import Diagnosis, Finding, GenerationRequest, InpaintRequest, RevisionRequest, Score
from controller.inpainting import InpaintingCase, InpaintingSettings, inpaint
from controller.regeneration import Case, RegenerationSettings, regenerate
from flows.jobs import inpainting as inpainting_jobs
from flows.jobs import regeneration as jobs
from flows.profiles.loading import load_profile
from flows.workers import calls
from flows.workers import tools as by_workers
from flows.workers.calls import Patience, ask, take
from flows.workers.codec import decode, encode
from flows.workers.exchange import Exchange
from flows.workers.models import perform
from memory_bank import open_memory_bank

QUICK = Patience(beat=0.05, silent=0.3, unclaimed=0.3, nobody=1.0, poll=(0.005, 0.02))


class Panic(BaseException):
    """As a library in Rust raises it."""


@pytest.fixture
def exchange(tmp_path):
    return Exchange(str(tmp_path / "store"))


def equal(a, b) -> bool:
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(equal(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b and type(a) is type(b)


def test_records_come_back_as_they_were(exchange) -> None:
    image = red_squares.picture((3, 3, 9, 9))
    mask = red_squares.flawed(image)
    finding = Finding(mask, "square\n\u2028", "it is red", "structure", 0.25)
    sent = (
        GenerationRequest("a cone", 2**63 - 1, ""),
        InpaintRequest(image, mask, "gray", 3, "", 0.5),
        Diagnosis((finding, finding), None, "answer"),
        Score("clip", "1", 0.1 + 0.2),
        RevisionRequest("a cone", "a cone, sharp", (finding,), ("a cone",)),
        (),
    )
    assert equal(decode(encode(list(sent), exchange.pictures), exchange.pictures), sent)


def test_only_records_are_read_back(exchange) -> None:
    for name in ("Path", "Mapping", "dataclass", "no such"):
        with pytest.raises(InvalidInput, match="another version"):
            decode({"record": name, "values": {}}, exchange.pictures)
    with pytest.raises(InvalidInput, match="another version .*unexpected keyword"):
        decode({"record": "Score", "values": {"nome": "clip"}}, exchange.pictures)
    with pytest.raises(InvalidInput, match="a function cannot be sent"):
        encode(equal, exchange.pictures)


class Workers:
    """Threads that take what is announced, in the place of Prefect."""

    def __init__(self, exchange, work) -> None:
        self.exchange, self.work, self.taken = exchange, work, []

    def announce(self) -> str:
        call = uuid.uuid4().hex
        threading.Thread(target=self._take, args=(call,), daemon=True).start()
        return call

    def _take(self, call) -> None:
        self.taken.append(call)
        try:
            take(self.exchange, call, self.work, f"worker {len(self.taken)}")
        except Exception:
            return


def test_a_call_is_answered_and_leaves_nothing_behind(exchange, tmp_path) -> None:
    workers = Workers(exchange, lambda question: [question["arguments"]["x"] + 1, question["tool"]])
    assert ask(exchange, workers.announce, "part", "method", {"a": 1}, {"x": 1}, QUICK) == (2, {"a": 1})
    assert not list((tmp_path / "store" / "calls").iterdir())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (CheckpointError("no weights"), CheckpointError, "^no weights$"),
        (RemoteError("busy"), RemoteError, "^busy$"),
        (RuntimeError("out of\nmemory"), ModelError, "worker 1: unexpected RuntimeError: out of memory"),
        (SystemExit("no license"), ModelError, "worker 1: unexpected SystemExit: no license"),
        (Panic("index out of bounds"), ModelError, "worker 1: unexpected Panic: index out of bounds"),
    ],
)
def test_a_tools_error_is_raised_where_it_was_asked(exchange, capsys, error, kind, words) -> None:
    def fail(_question):
        raise error

    workers = Workers(exchange, fail)
    with pytest.raises(kind, match=words) as caught:
        ask(exchange, workers.announce, "part", "method", {}, {}, QUICK)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    assert len(workers.taken) == 1  # answered, and not waited for until the worker counts as lost
    said = capsys.readouterr().err
    assert ("Traceback" in said) == (not isinstance(error, LegionError)) and str(error) in said


def test_a_long_call_with_signs_of_life_is_waited_for(exchange) -> None:
    def slow(_question):
        threading.Event().wait(4 * QUICK.silent)
        return "done"

    workers = Workers(exchange, slow)
    assert ask(exchange, workers.announce, "part", "method", {}, {}, QUICK) == "done"
    assert len(workers.taken) == 1


def test_the_call_of_a_worker_that_died_goes_to_another(exchange, monkeypatch) -> None:
    workers = Workers(exchange, lambda question: "done")
    ids = []

    def announce() -> str:
        if not ids:  # the first worker claims the call, and is heard no more
            ids.append(uuid.uuid4().hex)
            exchange.write(ids[0], "claim", {"worker": "dead", "beat": 7})
            return ids[0]
        return workers.announce()

    assert ask(exchange, announce, "part", "method", {}, {}, QUICK) == "done"
    assert len(workers.taken) == 1
    # It comes back to life, or gets the call late: nothing to do any more.
    take(exchange, ids[0], lambda question: pytest.fail("done twice"), "late")


def test_a_call_that_nobody_takes_is_asked_anew_and_fails_in_the_end(exchange) -> None:
    announced = []

    def announce() -> str:
        announced.append(uuid.uuid4().hex)
        return announced[-1]

    with pytest.raises(RemoteError, match="no worker takes a call of the part: start one with legion worker"):
        ask(exchange, announce, "part", "method", {}, {}, QUICK)
    assert len(announced) == 3  # waited 0.3, 0.6 and 1.2 s
    workers = Workers(exchange, lambda question: "done")
    found = iter([lambda: uuid.uuid4().hex, workers.announce])
    assert ask(exchange, lambda: next(found)(), "part", "method", {}, {}, QUICK) == "done"


def test_workers_that_always_die_are_not_asked_for_ever(exchange) -> None:
    def announce() -> str:
        call = uuid.uuid4().hex
        exchange.write(call, "claim", {"worker": "dead", "beat": 1})
        return call

    with pytest.raises(RemoteError, match="5 workers were lost over one call of the part"):
        ask(exchange, announce, "part", "method", {}, {}, QUICK)


def test_who_stops_asking_takes_the_call_back(exchange, monkeypatch) -> None:
    ids = []

    def announce() -> str:
        ids.append(uuid.uuid4().hex)
        return ids[-1]

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(calls, "_await", stop)
    with pytest.raises(KeyboardInterrupt):
        ask(exchange, announce, "part", "method", {}, {}, QUICK)
    take(exchange, ids[0], lambda question: pytest.fail("done for nobody"), "late")


def test_a_worker_waits_for_a_question_that_is_announced_before_it_is_written(exchange) -> None:
    call = uuid.uuid4().hex
    question = {"part": "p", "method": "m", "tool": {}, "arguments": {"values": {}}, "beat": 1.0}
    threading.Timer(0.3, exchange.write, (call, "call", question)).start()
    take(exchange, call, lambda question: "done", "early")
    assert exchange.read(call, "answer") == {"result": "done"}


def test_what_is_asked_for_by_another_version_is_refused(exchange) -> None:
    for part, method in (("generator", "load"), ("bank", "facts"), ("defender", "__init__")):
        question = {"part": part, "method": method, "tool": {}, "arguments": {}}
        with pytest.raises(InvalidInput, match="install the same version everywhere"):
            perform("tabletop", question, lambda *_: pytest.fail("found"))


def test_patience_is_a_setting() -> None:
    assert calls.patience({}) == Patience()
    assert calls.patience({"LEGION_WORKER_SILENCE": "5"}) == Patience(beat=1.0, silent=5.0)
    for text in ("0", "-1", "soon", "nan", "1e9"):
        with pytest.raises(InvalidInput, match="write seconds from 1 to 3600"):
            calls.patience({"LEGION_WORKER_SILENCE": text})


def test_workers_with_other_weights_are_noticed() -> None:
    prints = iter(["a", "a", "b"])
    scorer = by_workers.WorkerScorer(
        lambda *_: {"value": {"name": "clip", "describe": {}}, "tool": next(prints)}, "scorers", {}
    )
    assert scorer.score([], []) == ["name", "describe"]
    with pytest.raises(ModelError, match="two workers differ in the scorers: give them the same weights"):
        scorer.score([], [])


# --- loops -------------------------------------------------------------------------------------------------


def asking(exchange, find):
    """Tools whose work is done by threads that have the tools of `find`."""
    workers = Workers(exchange, lambda question: perform("tabletop", question, find))

    def far(part, method, tool, arguments):
        return ask(exchange, workers.announce, part, method, tool, arguments, QUICK)

    return far


def test_regeneration_by_workers_is_the_same_run(tmp_path, exchange, tools) -> None:
    near = tools
    scorers = {scorer.name: scorer for scorer in near.scorers}
    parts = {"generator": near.generator, "defender": near.defender, "modifier": near.modifier}

    def find(_profile, part, tool):
        return scorers[tool["scorer"]] if part == "scorers" else parts[part]

    job = jobs.make_job("tabletop", load_profile("tabletop"), ["a red cone", "a blue ball"], "r", 7)
    far = by_workers.regeneration_tools(job, asking(exchange, find))
    assert far.generator.unknown_words("a red zeppelin") == ["zeppelin"]
    bank = open_memory_bank(f"sqlite:///{tmp_path}/far.sqlite3", str(tmp_path / "store"))
    there = regenerate(job.cases, far, bank, RegenerationSettings())
    alone = open_memory_bank(f"sqlite:///{tmp_path}/near.sqlite3", str(tmp_path / "near"))
    here = regenerate(job.cases, near, alone, RegenerationSettings())
    for a, b in zip(there, here, strict=True):
        assert equal(
            [(r.prompt, r.seed, r.image, r.scores, r.verdict, r.revision) for r in a.rounds],
            [(r.prompt, r.seed, r.image, r.scores, r.verdict, r.revision) for r in b.rounds],
        )
        assert equal([r.diagnosis for r in a.rounds], [r.diagnosis for r in b.rounds])
        assert a.settings == b.settings  # so a run may go on with workers or without
    assert all(isinstance(case, Case) for case in job.cases)


def test_inpainting_by_workers_is_the_same_run(tmp_path, exchange) -> None:
    near = red_squares.square_tools()
    of = {"inpainter": near.inpainter, "defender": near.defender, "region modifier": near.modifier}
    scorers = dict(zip(("preference", "reporter"), near.scorers, strict=True))

    def find(_profile, part, tool):
        return scorers[tool["scorer"]] if part == "scorers" else of[part]

    case = inpainting_jobs.PictureRequest(tmp_path / "x.png")
    job = inpainting_jobs.make_job("tabletop", load_profile("tabletop"), [case], "i")
    far = by_workers.inpainting_tools(job, asking(exchange, find))
    far = type(far)(**{name: getattr(far, name) for name in far.__dataclass_fields__} | {"gate": near.gate})
    cases = [InpaintingCase("i", red_squares.picture((6, 6, 12, 12), (20, 20, 26, 26)), "a wall")]
    bank = open_memory_bank(f"sqlite:///{tmp_path}/far.sqlite3", str(tmp_path / "store"))
    (there,) = inpaint(cases, far, bank, InpaintingSettings())
    alone = open_memory_bank(f"sqlite:///{tmp_path}/near.sqlite3", str(tmp_path / "near"))
    (here,) = inpaint(cases, near, alone, InpaintingSettings())
    assert there.result == here.result != here.rounds[0].image
    assert there.settings == here.settings

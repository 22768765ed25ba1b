"""One user at a time for a GPU: held for a round, handed over between rounds and while a person is asked."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext

import pytest

from contracts.errors import InvalidInput
from controller.steps import RoundFinished, StepFinished, StepStarted
from flows.settings import prepare_prefect

prepare_prefect()
from flows.workers.slots import LEASE_SECONDS, RoundSlot, gpu_slot, round_slot  # noqa: E402


class Gate:
    """A slot that notes who comes and goes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def __call__(self):
        self.notes.append("taken")
        yield
        self.notes.append("given back")


def test_a_round_holds_the_slot_from_its_first_step_to_its_last() -> None:
    gate = Gate()
    slot = RoundSlot(gate)
    assert gate.notes == []
    for number in (1, 2):
        for step in ("paint", "diagnose", "score"):
            slot.listen(StepStarted(step, number, 1))
            slot.listen(StepFinished("run", step, number, 1, 1))
            assert gate.notes == ["taken", "given back"] * (number - 1) + ["taken"]
        slot.listen(RoundFinished("run", number, 2, True))
    slot.release()
    assert gate.notes == ["taken", "given back"] * 2


def test_others_have_it_while_a_person_is_asked() -> None:
    gate = Gate()
    slot = RoundSlot(gate)
    slot.listen(StepStarted("judge", 1, 1))
    slot.release()  # asked here
    slot.release()
    assert gate.notes == ["taken", "given back"]
    slot.listen(StepStarted("revise", 1, 1))
    assert gate.notes == ["taken", "given back", "taken"]


@pytest.mark.parametrize("name", ["box 1", "gpu/0", "ä", "x" * 61])
def test_a_name_that_cannot_be_used(name, monkeypatch) -> None:
    with pytest.raises(InvalidInput, match="write letters, digits"):
        gpu_slot(name)
    monkeypatch.setenv("LEGION_GPU", name)
    with pytest.raises(InvalidInput, match="cannot be used"):
        gpu_slot()


def test_without_a_name_nothing_is_limited(monkeypatch) -> None:
    monkeypatch.delenv("LEGION_GPU", raising=False)
    assert gpu_slot() is nullcontext


def test_a_loop_whose_models_are_elsewhere_takes_no_slot(monkeypatch) -> None:
    monkeypatch.setenv("LEGION_GPU", "box1-gpu0")
    monkeypatch.setenv("LEGION_TOOLS", "workers")
    slot = round_slot()  # would ask Prefect's server otherwise
    slot.listen(StepStarted("paint", 1, 1))
    slot.release()


@pytest.mark.prefect
def test_two_users_of_a_gpu_never_overlap_and_the_lease_is_short(server) -> None:
    from prefect.client.orchestration import get_client

    inside, most, turns = 0, 0, 0
    lock = threading.Lock()

    def use() -> None:
        nonlocal inside, most, turns
        with gpu_slot("shared-gpu")():
            with lock:
                inside, most = inside + 1, max(most, inside + 1)
            time.sleep(0.3)
            with lock:
                inside, turns = inside - 1, turns + 1

    users = [threading.Thread(target=use) for _ in range(3)]
    for user in users:
        user.start()
    with get_client(sync_client=True) as client:
        for user in users:
            user.join(120)
        limit = client.read_global_concurrency_limit_by_name("gpu:shared-gpu")
    assert (turns, most, inside) == (3, 1, 0)
    assert (limit.limit, limit.active_slots) == (1, 0)
    assert LEASE_SECONDS <= 60  # Prefect takes no less

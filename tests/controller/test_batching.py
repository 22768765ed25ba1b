"""Batch sizes, memory that runs out, and models that make room: with stand-ins, so that it happens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.errors import ModelError
from contracts.memory import out_of_memory
from controller.generators.batching import Batching, Probe, Relief
from controller.generators.shelf import Shelf, ShelvedDefender, ShelvedScorer

pytestmark = pytest.mark.slow  # torch is imported


def picture(number):
    return np.full((2, 2, 3), number, np.uint8)


class Device:
    """Has room for so many pictures at once; each model call is written down."""

    def __init__(self, room):
        self.room, self.calls = room, []

    def paint(self, requests):
        self.calls.append(len(requests))
        if len(requests) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [picture(number) for number in requests]


def numbers(images):
    return [int(image[0, 0, 0]) for image in images]


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost():
    device, batching = Device(3), Batching("painter", 8)
    assert numbers(batching.paint(range(11), lambda _: 0, device.paint)) == list(range(11))
    assert device.calls == [8, 4, 2, 2, 2, 2, 2, 1]
    device.calls.clear()
    batching.paint(range(4), lambda _: 0, device.paint)
    assert device.calls == [2, 2]  # learned


def test_kinds_are_painted_apart_and_come_in_order():
    device, batching = Device(8), Batching("painter", 8)
    assert numbers(batching.paint(range(5), lambda n: n % 2, device.paint)) == [0, 1, 2, 3, 4]
    assert device.calls == [3, 2]


def test_one_picture_tells_how_many_fit():
    device = Device(100)
    probe = Probe(start=lambda: None, taken=lambda: 10, free=lambda: 50)
    batching = Batching("painter", 16, probe=probe)
    assert len(batching.paint(range(12), lambda _: 0, device.paint)) == 12
    assert device.calls == [1, 5, 5, 1]  # four fifths of 50, in tens, and the one that was measured
    few = Batching("painter", 3, probe=probe)
    few.paint(range(4), lambda _: 0, device.paint)
    assert device.calls[4:] == [1, 3]


def test_reliefs_come_in_order_and_only_those_that_do_something(caplog):
    device, done = Device(0), []

    def relief(name, helps, room):
        def apply():
            done.append(name)
            device.room = max(device.room, room)
            return helps

        return Relief(name, apply)

    reliefs = [
        relief("nothing", False, 0),
        relief("a little", True, 0),
        relief("much", True, 1),
        relief("x", True, 1),
    ]
    batching = Batching("painter", 2, reliefs)
    assert numbers(batching.paint([1, 2], lambda _: 0, device.paint)) == [1, 2]
    assert done == ["nothing", "a little", "much"] and device.calls == [2, 1, 1, 1, 1]
    assert "trying with a little" in caplog.text and "nothing" not in caplog.text


def test_what_never_fits_is_one_clear_line():
    with pytest.raises(ModelError, match="does not fit into memory even for one picture") as caught:
        Batching("painter", 4).paint([1, 2], lambda _: 0, Device(0).paint)
    assert "\n" not in str(caught.value)


def test_other_failures_pass_through():
    def broken(_requests):
        raise ModelError("broken")

    with pytest.raises(ModelError, match="broken"):
        Batching("painter", 4).paint([1], lambda _: 0, broken)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("out of memory of me"), False),
        (None, False),
    ],
)
def test_running_out_is_told_from_other_failures(error, is_it):
    assert out_of_memory(error) is is_it
    wrapped = ModelError("while painting")
    wrapped.__cause__ = error
    assert out_of_memory(wrapped) is is_it


def test_a_pipeline_is_loaded_once_and_again_after_it_was_put_away():
    shelf, loads = Shelf(), []
    for name in "aabab":
        assert (
            shelf.get(name, lambda name=name: loads.append(name) or f"pipeline {name}") == f"pipeline {name}"
        )
    assert loads == ["a", "b"] and shelf.loads == {"a": 1, "b": 1}
    assert shelf.put_away_others("a") and not shelf.put_away_others("a")
    shelf.get("a", lambda: loads.append("a"))
    shelf.get("b", lambda: loads.append("b"))
    assert loads == ["a", "b", "b"]


def test_the_least_recently_used_makes_room():
    shelf, held = Shelf(), []

    def load(name):
        def loading():
            if len(shelf._held) >= 2:
                raise torch.OutOfMemoryError("full")
            held.append(name)
            return name

        return loading

    for name in ("a", "b", "a", "c"):
        shelf.get(name, load(name))
    assert list(shelf._held) == ["a", "c"] and held == ["a", "b", "c"]


def test_what_does_not_fit_alone_fails_and_other_failures_put_nothing_away():
    shelf = Shelf()

    def full():
        raise torch.OutOfMemoryError("full")

    def broken():
        raise ValueError("broken")

    shelf.get("a", lambda: "a")
    with pytest.raises(ValueError, match="broken"):
        shelf.get("b", broken)
    assert list(shelf._held) == ["a"]
    with pytest.raises(torch.OutOfMemoryError):
        shelf.get("b", full)
    assert not shelf._held


def test_views_are_made_once_and_go_with_their_pipeline():
    shelf, made = Shelf(), []

    def make(pipeline):
        made.append(pipeline)
        return object()

    first = shelf.view("a", lambda: "weights", "inpainting", make)
    assert shelf.view("a", lambda: "weights", "inpainting", make) is first and made == ["weights"]
    shelf.put_away_others("b")
    assert shelf.view("a", lambda: "weights", "inpainting", make) is not first


class Looking:
    """A defender and scorer in one, that has no room beside others."""

    name = "looking"

    def __init__(self, shelf=None):
        self.shelf = shelf

    def describe(self):
        return {"name": self.name}

    def diagnose(self, images):
        if self.shelf is not None and len(self.shelf._held) > 1:
            raise ModelError("too large") from torch.OutOfMemoryError("CUDA out of memory")
        return [f"diagnosis {number}" for number in images]

    def score(self, images, prompts):
        return [f"{prompt} {number}" for number, prompt in zip(images, prompts, strict=True)]


def test_defenders_and_scorers_make_room_for_pipelines_and_come_back():
    shelf, loads = Shelf(), []

    def load():
        loads.append("looking")
        return Looking()

    defender, scorer = ShelvedDefender(shelf, "defender", load), ShelvedScorer(shelf, "scorer", load)
    assert shelf.put_away_others("pipeline") and not shelf._held
    assert (defender.name, scorer.describe()) == ("looking", {"name": "looking"}) and len(loads) == 2
    assert defender.diagnose([1]) == ["diagnosis 1"] and scorer.score([1], ["cone"]) == ["cone 1"]
    assert len(loads) == 4 and shelf.loads == {"defender": 2, "scorer": 2}


def test_a_defender_that_does_not_fit_beside_others_is_tried_without_them(caplog):
    shelf = Shelf()
    defender = ShelvedDefender(shelf, "defender", lambda: Looking(shelf))
    shelf.get("pipeline", lambda: "pipeline")
    assert defender.diagnose([7]) == ["diagnosis 7"]
    assert list(shelf._held) == ["defender"] and "put away" in caplog.text


def test_a_defender_that_fits_nowhere_fails_with_its_own_words():
    shelf = Shelf()
    defender = ShelvedDefender(shelf, "defender", lambda: Looking(shelf))

    def full(_images):
        raise ModelError("even for one picture") from torch.OutOfMemoryError("full")

    shelf.get("defender", lambda: None).diagnose = full
    with pytest.raises(ModelError, match="even for one picture"):
        defender.diagnose([1])


def test_a_view_is_made_once_for_as_long_as_its_model_is_there() -> None:
    shelf, made = Shelf(), []

    def eager(tool: Looking) -> Looking:
        made.append(tool)
        return tool

    for _ in range(2):
        defender = ShelvedDefender(shelf, "defender", lambda: Looking(shelf), "eager", eager)
        defender.diagnose([])
    assert len(made) == 1 == shelf.loads["defender"]
    shelf.put_away_others("another")
    defender.diagnose([])
    assert len(made) == 2 == shelf.loads["defender"]

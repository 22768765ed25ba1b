"""The pure part of training: which samples a step sees, how fast it learns, how a batch is divided."""

import json
import math
from dataclasses import fields, replace

import pytest

from contracts.errors import InvalidInput
from defender.training.schedule import (
    PRACTICAL,
    Schedule,
    batch_indices,
    essence,
    learning_rate,
    part_number,
    part_size,
)


def test_neighbors_stay_together_and_a_pass_sees_everything_once():
    schedule = Schedule(steps=1, batch_size=6, group=2, seed=5)
    seen = []
    for step in range(4):
        indices = batch_indices(step, 24, schedule)
        assert len(indices) == 6
        assert all(b == a + 1 and a % 2 == 0 for a, b in zip(indices[::2], indices[1::2], strict=True))
        seen += indices
    assert sorted(seen) == list(range(24))
    assert batch_indices(4, 24, schedule) != batch_indices(0, 24, schedule)
    assert batch_indices(2, 24, schedule) == batch_indices(2, 24, schedule)


def test_too_few_samples():
    with pytest.raises(InvalidInput, match="too few"):
        batch_indices(0, 4, Schedule(steps=1, batch_size=8))


def test_learning_rate_rises_and_falls():
    schedule = Schedule(steps=100, learning_rate=1.0, warmup=10)
    rates = [learning_rate(step, step / 100, schedule) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates.index(max(rates)) == 9
    assert rates[-1] == pytest.approx(0.02)
    assert math.isclose(rates[50], 0.51, abs_tol=1e-6)


def test_linear_decay_reaches_its_floor():
    schedule = Schedule(steps=100, learning_rate=2.0, warmup=1, decay="linear", floor=0.0)
    assert learning_rate(0, 0.0, schedule) == 2.0
    assert learning_rate(25, 0.25, schedule) == pytest.approx(1.5)
    assert learning_rate(100, 1.0, schedule) == 0.0
    assert learning_rate(100, 1.0, replace(schedule, floor=0.1)) == pytest.approx(0.2)


def test_no_decay():
    schedule = Schedule(steps=10, learning_rate=2.0, warmup=0, decay="none")
    assert [learning_rate(step, step / 10, schedule) for step in (0, 5, 10)] == [2.0, 2.0, 2.0]


def test_the_released_code_stops_while_its_rate_is_high():
    """703 steps of a decay over 2109: its last rate is still two thirds of the peak."""
    schedule = Schedule(steps=703, learning_rate=1e-4, decay="linear", decay_steps=2109, floor=0.0)
    assert learning_rate(702, 702 / 703, schedule) == pytest.approx(0.667e-4, rel=1e-2)


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 1), (2, 1), (1, 4), (2, 2), (4, 1)])
def test_a_batch_is_divided_without_loss_or_repetition(processes, accumulation):
    schedule = Schedule(steps=1, batch_size=16, group=2, accumulation=accumulation)
    size = part_size(schedule, processes)
    places = [
        part_number(micro, process, processes)
        for process in range(processes)
        for micro in range(accumulation)
    ]
    assert sorted(places) == list(range(processes * accumulation))
    covered = [at for place in places for at in range(place * size, (place + 1) * size)]
    assert sorted(covered) == list(range(16))


def test_a_batch_that_does_not_divide_is_refused_with_one_that_does():
    with pytest.raises(InvalidInput, match="multiple of 8"):
        part_size(Schedule(steps=1, batch_size=12, group=2, accumulation=2), 2)
    with pytest.raises(InvalidInput, match="batch of 1 does not divide"):
        part_size(Schedule(steps=1, batch_size=1), 2)


def test_essence_is_what_json_gives_back_and_leaves_out_what_does_not_matter():
    schedule = Schedule(steps=3)
    facts = essence(schedule)
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {field.name for field in fields(Schedule)} - set(PRACTICAL)
    assert essence(replace(schedule, accumulation=2, save_every=1.0)) == facts
    assert essence(replace(schedule, clip=2.0)) != facts

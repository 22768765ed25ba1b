"""A run that was stopped and started again makes the same weights as one that was not."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from contracts.errors import CheckpointError
from tabletop.trainer import Schedule, learning_rate, train, train_in_turn

SCHEDULE = Schedule(steps=30, learning_rate=1e-2, seed=3, warmup=5, ema_decay=0.9, log_every=10)


def toy():
    """A small network with dropout, and its loss."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.2), nn.Linear(16, 1))

    def loss(step, rng):
        x = torch.from_numpy(rng.standard_normal((8, 4), "float32"))
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {}

    return model, loss


def run(folder, **changes):
    model, loss = toy()
    outcome = train("toy", folder, model, loss, replace(SCHEDULE, **changes))
    return outcome, model.state_dict()


def run_two(folder, **changes):
    """Two parts of one training."""
    model, loss = toy()
    schedules = [replace(SCHEDULE, seed=seed, **changes) for seed in (3, 4)]
    outcome = train_in_turn(folder, model, [(f"part-{s.seed}", loss, s) for s in schedules])
    return outcome, model.state_dict()


def test_resume_is_exact(tmp_path):
    whole, expected = run(tmp_path / "whole")
    assert whole.finished and whole.step == 30
    sittings = 0
    while True:
        outcome, state = run(tmp_path / "parts", max_seconds=0.004, save_every=0.0)
        sittings += 1
        if outcome.finished:
            break
        assert sittings < 500
    assert sittings > 1, "the test must stop the run at least once"
    assert all(torch.equal(expected[k], state[k]) for k in expected)


def test_parts_in_turn_stop_where_one_is_paused_and_go_on_exactly(tmp_path):
    whole, expected = run_two(tmp_path / "whole")
    assert whole.finished and whole.step == 60
    paused, _ = run_two(tmp_path / "parts", max_seconds=0.0)
    assert not paused.finished and not (tmp_path / "parts" / "part-4.pt").exists()
    _, first_alone = run(tmp_path / "alone")
    assert not all(torch.equal(first_alone[k], expected[k]) for k in expected)
    outcome, state = run_two(tmp_path / "parts")
    assert outcome.finished and outcome.step == 60
    assert all(torch.equal(expected[k], state[k]) for k in expected)


def test_a_run_goes_on_only_with_the_schedule_it_began_with(tmp_path):
    run(tmp_path, max_seconds=0.0)
    with pytest.raises(CheckpointError, match=r"another schedule \(steps, betas\): remove it"):
        run(tmp_path, steps=40, betas=(0.8, 0.9))
    outcome, _ = run(tmp_path, log_every=7)
    assert outcome.finished


def test_another_seed_gives_other_weights(tmp_path):
    _, first = run(tmp_path / "a")
    _, second = run(tmp_path / "b", seed=4)
    assert not all(torch.equal(first[k], second[k]) for k in first)


def test_learning_rate_warms_up_then_falls():
    rates = [learning_rate(s, SCHEDULE) for s in range(30)]
    assert max(rates) == pytest.approx(1e-2)
    assert rates.index(max(rates)) in (4, 5)
    assert rates[-1] < 0.1 * max(rates)

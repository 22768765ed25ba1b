"""A line of a training's log in words, as terminals and pages show it."""

from __future__ import annotations

from defender.training.reporting import told


def test_a_step_and_a_validation_are_told_in_words() -> None:
    step = {"seconds": 3.2, "per_second": 12.5, "lr": 0.0001, "loss": 0.81234}
    assert told(step) == " seconds 3.2, per second 12.5, lr 0.0001, loss 0.8123"
    validation = {"seconds": 4.0, "validation": {"loss": 0.5, "mask_dice": 0.25}, "best": True}
    assert told(validation) == " held-out samples: loss 0.5, mask dice 0.25, the best so far"
    assert told({**validation, "best": False}) == " held-out samples: loss 0.5, mask dice 0.25"

"""Figures are what their definitions say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contracts.records import Diagnosis, Finding
from defender import evaluation
from defender.checkpoint import Checkpoint, Thresholds
from defender.datasets import Sample
from defender.legion_defender import LegionDefender


def mask(*columns):
    made = np.zeros((1, 10), dtype=bool)
    made[0, list(columns)] = True
    return made


def finding(made, phrase="the red cone", category="physics"):
    return Finding(made, phrase, "floats", category, 1.0)


def sample(*findings, real=None, brightness=0):
    return Sample(np.full((1, 10, 3), brightness, np.uint8), findings, real)


class Scripted:
    """A defender that says what it was told to."""

    name = "scripted"

    def __init__(self, answers):
        self.answers = answers

    def diagnose(self, images):
        return [self.answers[int(image[0, 0, 0])] for image in images]

    def describe(self):
        return {}


def test_overlap_figures():
    assert evaluation.foreground_f1(mask(0, 1), mask(1, 2)) == 0.5
    assert evaluation.iou(mask(0, 1), mask(1, 2)) == pytest.approx(1 / 3)
    assert evaluation.mean_iou(mask(0, 1), mask(1, 2)) == pytest.approx((1 / 3 + 7 / 9) / 2)
    assert evaluation.foreground_f1(mask(), mask()) == evaluation.iou(mask(), mask()) == 1.0


def test_matching_takes_the_best_overlap_first_and_each_once():
    true = [finding(mask(0, 1, 2)), finding(mask(3, 4, 5))]
    found = [finding(mask(2, 3, 4, 5)), finding(mask(0, 1)), finding(mask(9))]
    assert evaluation.match(found, true) == [(true[1], found[0]), (true[0], found[1])]


def test_figures_of_a_small_set():
    answers = {
        0: Diagnosis((finding(mask(0, 1)),), synthetic_probability=0.9),
        1: Diagnosis((), synthetic_probability=0.2),
        2: Diagnosis((finding(mask(5), "the ball", "structure"),), synthetic_probability=0.7),
        3: Diagnosis(()),
    }
    samples = [
        sample(finding(mask(0, 1, 2, 3)), real=False),
        sample(real=True, brightness=1),
        sample(real=True, brightness=2),
        sample(finding(mask(7)), finding(mask(8)), brightness=3),
    ]
    figures = evaluation.evaluate(Scripted(answers), samples)
    assert figures["F1"] == pytest.approx((2 / 3 + 0) / 2)
    assert figures["F1 over pixels"] == pytest.approx(4 / 8)
    assert figures["finding F1"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert figures["detected"] == 0.5 and figures["false alarms"] == 0.5
    assert figures["category"] == figures["phrase"] == 1.0
    assert figures["real or generated"] == pytest.approx(2 / 3)


def test_exchanging_stays_within_a_picture():
    owners = torch.tensor([0, 0, 0, 2, 3, 3])
    assert evaluation._next_of_same_owner(owners).tolist() == [1, 2, 0, 3, 5, 4]


@pytest.mark.slow
def test_text_guidance_compares_own_and_exchanged_prompts(model, collate, samples):
    figures = evaluation.text_guidance(model, collate, samples)
    assert set(figures) == {"finding F1", "finding F1, exchanged"}
    with torch.no_grad():  # a network whose masks ignore the text
        model.model.text_hidden_fcs[0][2].weight.zero_()
    figures = evaluation.text_guidance(model, collate, samples)
    assert figures["finding F1"] == pytest.approx(figures["finding F1, exchanged"])
    assert evaluation.text_guidance(model, collate, [s for s in samples if not s.findings]) == {}


@pytest.mark.slow
def test_calibration_keeps_false_alarms_down(model, dialog, samples):
    defender = LegionDefender(Checkpoint(model, dialog, Thresholds(min_area=0.5), "digest"))
    thresholds = evaluation.calibrate(defender, samples, false_alarms=0.25)
    clean = [s.image for s in samples if not s.findings]
    alarms = np.mean(np.array(defender.artifact_probability(clean)) >= thresholds.artifact_probability)
    assert alarms <= 0.25
    assert thresholds == replace(thresholds, min_area=0.5)

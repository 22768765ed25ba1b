"""Detection figures: each generator alone, families, and the unweighted mean."""

import numpy as np
import pytest

from contracts.errors import InvalidInput
from contracts.records import Diagnosis
from defender.datasets import Sample
from defender.evaluation import detection
from defender.evaluation.pictures import Picture

ONE = np.ones((1, 4))


def row(group, real, synthetic):
    return {"index": 0, "name": "p", "group": group, "real": real, "synthetic": synthetic}


def table(figures):
    return {(f.group, f.name): f.interval.mean for f in figures}


def test_average_precision_by_hand():
    statistic = detection.average_precision([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    assert statistic(ONE)[0] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_average_precision_takes_ties_at_once_whatever_their_order():
    ahead = detection.average_precision([0.5] * 4, [True, False, False, False])(ONE)[0]
    behind = detection.average_precision([0.5] * 4, [False, False, False, True])(ONE)[0]
    assert ahead == behind == pytest.approx(1 / 4)


def test_average_precision_of_a_draw_is_that_of_the_pictures_drawn():
    score, positive = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    drawn = [0, 1, 1, 3]
    counts = np.bincount(drawn, minlength=4)[None].astype(float)
    again = detection.average_precision(score[drawn], positive[drawn])(ONE)[0]
    assert detection.average_precision(score, positive)(counts)[0] == pytest.approx(again)
    assert np.isnan(detection.average_precision(score, positive)(np.array([[0.0, 1, 0, 3]]))[0])


def test_calibration_error_is_the_gap_between_word_and_fact():
    assert detection.calibration_error([0.9] * 4, [True, True, False, False])(ONE)[0] == pytest.approx(0.4)
    assert detection.calibration_error([1.0, 1.0, 0.0, 0.0], [True, True, False, False])(ONE)[0] == 0.0


def test_the_mean_gives_each_generator_the_same_weight():
    rows = [row("a", False, 0.9), row("a", True, 0.1), *[row("b", False, 0.2)] * 6, row("b", True, 0.1)]
    figures = table(detection.figures(rows, {"both": ["a", "b"], "none": ["c"]}))
    assert figures["a", "accuracy"] == 1.0 and figures["b", "accuracy"] == pytest.approx(1 / 7)
    assert figures["mean of generators", "accuracy"] == pytest.approx((1 + 1 / 7) / 2)
    assert figures["both", "accuracy"] == figures["mean of generators", "accuracy"]
    assert figures["b", "real called real"] == 1.0 and figures["b", "generated called generated"] == 0.0
    assert not [group for group, _ in figures if group == "none"]


def test_one_kind_alone_has_an_accuracy_and_no_more_than_that():
    figures = table(detection.figures([row("", True, 0.1), row("", True, 0.6)]))
    assert figures["", "accuracy"] == 0.5 and ("", "average precision") not in figures


def test_a_defender_without_a_head_is_told_so():
    picture = Picture(0, "p", "", Sample(np.zeros((1, 1, 3), np.uint8), (), True), True)
    assert detection.measure(picture, Diagnosis((), 0.25)) == {"real": True, "synthetic": 0.25}
    with pytest.raises(InvalidInput, match="no trained detection head"):
        detection.measure(picture, Diagnosis(()))

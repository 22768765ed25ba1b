"""Localization figures are what their definitions say."""

import numpy as np
import pytest
from figure_means import means

from contracts.records import Diagnosis, Finding
from defender.answers import UNNAMED
from defender.datasets import Sample
from defender.evaluation import localization, measured, metrics
from defender.evaluation.pictures import Picture


def mask(*columns):
    made = np.zeros((1, 10), dtype=bool)
    made[0, list(columns)] = True
    return made


def finding(made, phrase="the red cone", category="physics", explanation="floats"):
    return Finding(made, phrase, explanation, category, 1.0)


def sample(*findings, real=None, brightness=0):
    return Sample(np.full((1, 10, 3), brightness, np.uint8), findings, real)


def picture(*findings, group="", clean=False):
    return Picture(0, "p", group, sample(*findings), clean)


class Scripted:
    """A defender that says what it was told to."""

    name = "scripted"

    def __init__(self, answers):
        self.answers = answers

    def diagnose(self, images):
        return [self.answers[int(image[0, 0, 0])] for image in images]

    def describe(self):
        return {}


def row(true, found, group="", clean=False):
    shown = picture(*true, group=group, clean=clean)
    return {**shown.head, **localization.measure(shown, Diagnosis(tuple(found)))}


def test_overlap_figures():
    assert metrics.foreground_f1(mask(0, 1), mask(1, 2)) == 0.5
    assert metrics.iou(mask(0, 1), mask(1, 2)) == pytest.approx(1 / 3)
    assert metrics.mean_iou(mask(0, 1), mask(1, 2)) == pytest.approx((1 / 3 + 7 / 9) / 2)
    assert metrics.foreground_f1(mask(), mask()) == metrics.iou(mask(), mask()) == 1.0


def test_matching_takes_the_best_overlap_first_and_each_once():
    true = [finding(mask(0, 1, 2)), finding(mask(3, 4, 5))]
    found = [finding(mask(2, 3, 4, 5)), finding(mask(0, 1)), finding(mask(9))]
    assert metrics.match(found, true) == [(true[1], found[0]), (true[0], found[1])]


@pytest.mark.parametrize(
    ("phrase", "heads"),
    [
        ("the shadow of the red cone", ("shadow", "cone")),
        ("The Red Cone", ("cone",)),
        ("a woman's left hand with six fingers", ("hand", "fingers")),
        ("sky and sea", ("sky", "sea")),
        ("of", ()),
        ("", ()),
    ],
)
def test_nouns_head_each_part_of_a_phrase(phrase, heads):
    assert metrics.nouns(phrase) == heads


def test_masks_are_averaged_by_picture_and_summed_for_ciou():
    rows = [
        row([finding(mask(0, 1, 2, 3))], [finding(mask(0, 1))]),
        row([finding(mask(7))], [finding(mask(7))]),
    ]
    figures = means(localization.figures(rows))
    assert figures["F1"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["mIoU"] == pytest.approx(((2 / 4 + 6 / 8) / 2 + 1) / 2)
    assert figures["gIoU"] == pytest.approx((2 / 4 + 1) / 2)
    assert figures["cIoU"] == pytest.approx((2 + 1) / (4 + 1))


def test_an_artifact_that_was_missed_counts_as_zero_and_is_not_called_misnamed():
    true = [finding(mask(0, 1)), finding(mask(5), "the shadow of the cone", "structure")]
    figures = means(localization.figures([row(true, [finding(mask(0, 1), "the blue cone")])]))
    assert figures["F1 per artifact"] == figures["F1 per artifact, several in a picture"] == 0.5
    assert figures["artifacts found"] == 0.5
    assert figures["category right"] == figures["nouns of the phrase right"] == 1.0
    assert figures["phrase right, word for word"] == 0.0


def test_small_artifacts_are_counted_apart():
    wide = np.zeros((10, 100), bool)
    wide[0, :5] = True
    shown = Picture(0, "p", "", Sample(np.zeros((10, 100, 3), np.uint8), (finding(wide),)), False)
    measured = {**shown.head, **localization.measure(shown, Diagnosis(()))}
    assert means(localization.figures([measured]))["artifacts under 1 % found"] == 0.0
    assert "artifacts under 1 % found" not in means(localization.figures([row([finding(mask(1))], [])]))


def test_false_alarms_are_of_pictures_known_to_be_clean_only():
    rows = [row([], [finding(mask(1))], clean=True), row([], [], clean=True), row([], [finding(mask(1))])]
    assert means(localization.figures(rows)) == {"false alarms": 0.5}


def test_truth_without_words_says_nothing_about_words():
    shown = picture(finding(mask(1), UNNAMED, explanation=""))
    measured = localization.measure(shown, Diagnosis((finding(mask(1)),)))
    figures = means(localization.figures([{**shown.head, **measured}]))
    assert figures["F1"] == 1.0
    assert not [name for name in figures if "right" in name]


def test_groups_are_kept_apart_and_then_taken_together():
    rows = [row([], [], "b", True), row([], [finding(mask(1))], "a", True), row([], [], "a", True)]
    found = {f.group: (f.interval.mean, f.pictures) for f in localization.figures(rows)}
    assert list(found) == ["b", "a", "all"]
    assert found == {"b": (0, 1), "a": (0.5, 2), "all": (pytest.approx(1 / 3), 3)}


def test_findings_of_one_picture_do_not_count_as_independent():
    """Two pictures of four artifacts each: the interval spans both pictures' means and is no narrower."""
    right = [finding(mask(i)) for i in range(4)]
    (figure,) = [
        f for f in localization.figures([row(right, right), row(right, [])]) if f.name == "F1 per artifact"
    ]
    assert (figure.interval.low, figure.interval.high) == (0.0, 1.0)


def test_numbers_alone_for_a_small_set():
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
    figures = means(measured(Scripted(answers), samples))
    assert figures["F1"] == pytest.approx((2 / 3 + 0) / 2)
    assert figures["F1 per artifact"] == pytest.approx((2 / 3 + 0 + 0) / 3)
    assert figures["pictures with a finding"] == 0.5 and figures["false alarms"] == 0.5
    assert figures["accuracy"] == pytest.approx(2 / 3)

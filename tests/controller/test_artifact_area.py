"""The share of a picture without artifacts, from any defender's findings."""

from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import InvalidInput, ModelError
from contracts.records import Diagnosis, Finding, Usage
from controller.scorers.artifact_area import ArtifactAreaScorer, RememberingDefender, artifact_area_ratio

IMAGES = [np.full((4, 10, 3), value, np.uint8) for value in (0, 1, 2)]


def finding(columns, confidence=0.9):
    mask = np.zeros((4, 10), bool)
    mask[:, columns] = True
    return Finding(mask, "x", "y", "physics", confidence)


class Defender:
    name = "scripted"

    def __init__(self, weights="1"):
        self.weights, self.asked = weights, []

    def diagnose(self, images):
        self.asked.append(len(images))
        found = {0: (), 1: (finding(slice(0, 2)),), 2: (finding(slice(0, 2)), finding(slice(1, 4), 0.3))}
        return [Diagnosis(found[int(image[0, 0, 0])]) for image in images]

    def describe(self):
        return {"name": self.name, "weights": self.weights}


def test_the_ratio_counts_overlaps_once_and_doubtful_findings_on_request():
    both = Diagnosis((finding(slice(0, 2)), finding(slice(1, 4), 0.3)))
    assert artifact_area_ratio(both, (4, 10)) == 0.4
    assert artifact_area_ratio(both, (4, 10), 0.3) == 0.4
    assert artifact_area_ratio(both, (4, 10), 0.31) == 0.2
    assert artifact_area_ratio(Diagnosis(()), (4, 10)) == 0


def test_the_score_is_what_is_left():
    scorer = ArtifactAreaScorer("clean", Defender())
    assert [score.value for score in scorer.score(IMAGES, [""] * 3)] == [1.0, 0.8, 0.6]
    strict = ArtifactAreaScorer("clean", Defender(), 0.5)
    assert [score.value for score in strict.score(IMAGES, [""] * 3)] == [1.0, 0.8, 0.8]
    assert scorer.score([], []) == []


def test_another_defender_or_threshold_is_another_version():
    versions = {
        scorer.score(IMAGES[:1], [""])[0].version
        for scorer in (
            ArtifactAreaScorer("clean", Defender()),
            ArtifactAreaScorer("clean", Defender(), 0.5),
            ArtifactAreaScorer("clean", Defender("2")),
            ArtifactAreaScorer("other", Defender()),
        )
    }
    assert len(versions) == 3
    elsewhere = Defender()
    elsewhere.describe = lambda: {"name": "scripted", "weights": "1", "device": "cuda"}
    assert ArtifactAreaScorer("clean", elsewhere).score(IMAGES[:1], [""])[0].version in versions
    described = ArtifactAreaScorer("clean", Defender()).describe()
    assert described["version"] in versions and described["defender"] == Defender().describe()


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_confidence_outside_its_range_is_refused(value):
    with pytest.raises(InvalidInput, match="min confidence"):
        ArtifactAreaScorer("clean", Defender(), value)


def test_one_prompt_per_picture_and_one_diagnosis():
    scorer = ArtifactAreaScorer("clean", Defender())
    with pytest.raises(InvalidInput, match="3 images and 1 prompts"):
        scorer.score(IMAGES, [""])
    short = Defender()
    short.diagnose = lambda images: []
    with pytest.raises(ModelError, match="scripted gave 0 results for 3 pictures"):
        ArtifactAreaScorer("clean", short).score(IMAGES, [""] * 3)


def test_a_picture_is_looked_at_once_until_it_is_forgotten():
    asked = Defender()
    remembering = RememberingDefender(asked, limit=2)
    first = remembering.diagnose([IMAGES[0], IMAGES[1], IMAGES[1]])
    assert asked.asked == [2] and first[1] is first[2]
    again = remembering.diagnose([IMAGES[1], IMAGES[0]])
    assert asked.asked == [2] and again == [first[1], first[0]]
    remembering.diagnose([IMAGES[2]])
    remembering.diagnose([IMAGES[0]])
    assert asked.asked == [2, 1, 1]
    assert remembering.describe() == asked.describe() and remembering.name == "scripted"
    assert [len(d.findings) for d in remembering.diagnose(IMAGES)] == [0, 1, 2]


def test_what_is_remembered_is_not_paid_again():
    class Paid(Defender):
        def diagnose(self, images):
            return [replace(found, usage=Usage(1, 10, 2)) for found in super().diagnose(images)]

    remembering = RememberingDefender(Paid())
    first = remembering.diagnose([IMAGES[1], IMAGES[1]])
    assert [d.usage.calls for d in (*first, *remembering.diagnose([IMAGES[1]]))] == [1, 0, 0]


def test_pictures_of_equal_bytes_and_other_shapes_are_not_mistaken():
    asked = Defender()
    remembering = RememberingDefender(asked)
    remembering.diagnose([IMAGES[0], IMAGES[0].reshape(10, 4, 3)])
    assert asked.asked == [2]

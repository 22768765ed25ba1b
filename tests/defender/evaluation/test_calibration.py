"""Thresholds keep false alarms at the share asked for; probabilities mean what they say."""

import json
from dataclasses import replace

import numpy as np
import pytest

from contracts.errors import InvalidInput
from contracts.records import Diagnosis, Finding
from defender.checkpoint import Checkpoint, Thresholds
from defender.datasets import Sample
from defender.evaluation import calibrate
from defender.evaluation.calibration import (
    NOTHING,
    Evidence,
    alarm_threshold,
    alarms,
    gather_tiled,
    platt,
    sigmoid,
    summary,
    thresholds_from,
    tile_confidence_from,
)
from defender.evaluation.pictures import Picture
from defender.legion_defender import LegionDefender
from defender.tiling import TiledDefender, Tiling

NONE = np.zeros(0)


def evidence(clean=NONE, logit=NONE, generated=NONE):
    return Evidence(np.asarray(clean, float), NONE, np.asarray(logit, float), np.asarray(generated, bool))


@pytest.mark.parametrize("share", [0.0, 0.04, 0.25, 0.99])
def test_at_most_the_given_share_reaches_the_threshold_and_no_more_than_needed_is_given_up(share):
    clean = np.random.default_rng(0).random(200)
    limit = alarm_threshold(clean, share)
    assert np.mean(clean >= limit) <= share
    assert np.mean(clean >= limit) > share - 2 / 200


def test_a_threshold_stays_within_its_range_where_many_are_sure():
    assert alarm_threshold(np.ones(50), 0.04) == 1.0


def test_platt_finds_the_line_that_made_the_labels():
    rng = np.random.default_rng(1)
    logit = rng.normal(0, 3, 20_000)
    generated = rng.random(20_000) < sigmoid(0.5 * logit - 1.0)
    scale, shift = platt(logit, generated)
    assert (scale, shift) == (pytest.approx(0.5, abs=0.03), pytest.approx(-1.0, abs=0.06))


def test_platt_stays_finite_where_the_head_is_always_right():
    logit = np.concatenate([np.full(50, -4.0), np.full(50, 4.0)])
    scale, shift = platt(logit, logit > 0)
    assert sigmoid(scale * 4 + shift) == pytest.approx(51 / 52, abs=1e-3)
    assert shift == pytest.approx(0, abs=1e-6)


def test_what_nothing_speaks_of_stays_as_it_was():
    before = Thresholds(0.3, min_area=0.1, detection_scale=2.0)
    after = thresholds_from(evidence(clean=np.linspace(0, 1, 100)), before)
    assert after == replace(before, artifact_probability=after.artifact_probability)
    assert after.artifact_probability == pytest.approx(0.96, abs=0.01)
    logit = np.linspace(-3, 3, 60)
    after = thresholds_from(evidence(logit=logit, generated=logit > 0.5), before)
    assert after.artifact_probability == 0.3 and after.detection_scale != 2.0


def test_too_little_to_go_by():
    few = evidence(clean=[0.1] * 19, logit=[0.0] * 30, generated=[True] * 30)
    with pytest.raises(InvalidInput, match="19 pictures .* 0 of real"):
        thresholds_from(few, Thresholds())
    with pytest.raises(InvalidInput, match="1.5"):
        thresholds_from(few, Thresholds(), false_alarms=1.5)


@pytest.mark.slow
def test_a_calibrated_defender_keeps_to_its_share(model, dialog, samples):
    defender = LegionDefender(Checkpoint(model, dialog, Thresholds(min_area=0.5), "digest"))
    thresholds = calibrate(defender, samples, false_alarms=0.25)
    shares, logits = defender.inclinations([s.image for s in samples if not s.findings])
    assert np.mean(shares >= thresholds.artifact_probability) <= 0.25
    assert thresholds.min_area == 0.5 and thresholds.detection_scale != 1.0
    again = LegionDefender(Checkpoint(model, dialog, thresholds, "digest"))
    said = [d.synthetic_probability for d in again.diagnose([s.image for s in samples if not s.findings])]
    assert said == pytest.approx(sigmoid(thresholds.detection_scale * logits + thresholds.detection_shift))


@pytest.mark.slow
def test_without_a_head_only_the_alarm_is_set(model, dialog, samples):
    model.config = replace(model.config, has_detection=False)
    defender = LegionDefender(Checkpoint(model, dialog, Thresholds(), "digest"))
    assert defender.inclinations([samples[0].image])[1] is None
    assert calibrate(defender, samples).detection_scale == 1.0


def test_where_no_opening_decides_the_confidence_does():
    sure = replace(evidence(clean=np.linspace(0, 1, 100)), alarm="min_confidence")
    before = Thresholds(0.3)
    after = thresholds_from(NOTHING + sure, before)
    assert after == replace(before, min_confidence=after.min_confidence)
    assert after.min_confidence == pytest.approx(0.96, abs=0.01)
    assert summary(sure, after)["false alarms"] == pytest.approx(0.04, abs=0.011)
    silent = replace(evidence(clean=np.zeros(100)), alarm="min_confidence")
    assert summary(silent, before)["false alarms"] == 0.0  # no finding is no alarm, at any limit


class Unsure:
    """Marks the middle of each picture that is not black, the surer the brighter."""

    name = "unsure"

    def diagnose(self, images):
        found = []
        for image in images:
            mask = np.zeros(image.shape[:2], bool)
            mask[20:40, 20:40] = True
            finding = Finding(mask, "a", "b", "physics", float(image.max()) / 255)
            found.append(Diagnosis((finding,) if image.any() else ()))
        return found

    def describe(self):
        return {"thresholds": {"tile_confidence": 0.5}}


def test_tiles_get_a_limit_of_their_own():
    rng = np.random.default_rng(0)
    pictures = [
        Picture(i, "", "", Sample(np.full((130, 130, 3), rng.integers(1, 255), np.uint8), ()), clean=True)
        for i in range(50)
    ]
    small = replace(pictures[0], sample=Sample(np.full((40, 40, 3), 255, np.uint8), ()))
    seen = gather_tiled(TiledDefender(Unsure(), Tiling(2)), [*pictures, small])
    assert len(seen.clean) == 50 and seen.alarm == "tile_confidence"
    after = tile_confidence_from(seen, Thresholds(0.3, min_confidence=0.2), 0.1)
    assert after == Thresholds(0.3, min_confidence=0.2, tile_confidence=after.tile_confidence)
    assert 0.05 <= alarms(seen, after, " with tiles")["false alarms with tiles"] <= 0.1
    assert json.loads(after.to_json())["tile_confidence"] == after.tile_confidence
    assert Thresholds.from_json(after.to_json()) == after
    assert "tile_confidence" not in Thresholds(0.3).to_json()  # an older version reads it, too
    with pytest.raises(InvalidInput, match="0 pictures.*large enough to be cut"):
        tile_confidence_from(gather_tiled(TiledDefender(Unsure(), Tiling(2)), [small]), after)


def test_tiles_are_held_to_what_was_calibrated_unless_told():
    calibrated = TiledDefender(Unsure(), Tiling(2))
    assert calibrated.min_confidence == calibrated.describe()["tiling"]["min_confidence"] == 0.5
    dim, bright = (np.full((130, 130, 3), value, np.uint8) for value in (100, 200))
    assert [bool(d.findings) for d in calibrated.diagnose([dim, bright])] == [False, True]
    told = TiledDefender(Unsure(), Tiling(2, min_confidence=0.0))
    assert all(d.findings for d in told.diagnose([dim, bright]))

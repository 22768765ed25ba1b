"""Damage is what its numbers say, always the same, and losses are of the same pictures."""

import io

import numpy as np
import pytest
from PIL import Image as PILImage

from contracts.records import Diagnosis, Finding
from defender.datasets import Sample
from defender.evaluation import perturbations, robustness
from defender.evaluation.pictures import Picture


def gradient(height=24, width=40):
    columns = np.linspace(0, 255, width)
    return np.stack([np.tile(columns, (height, 1))] * 3, axis=-1).astype(np.uint8)


def test_settings_are_those_of_the_paper():
    names = [p.name for p in perturbations.PERTURBATIONS]
    expected = "none, JPEG 50, JPEG 35, JPEG 20, noise 0.1, noise 0.2, noise 0.3, blur 5, blur 9, blur 15"
    assert ", ".join(names) == expected


@pytest.mark.parametrize("perturbation", perturbations.PERTURBATIONS, ids=lambda p: p.name)
@pytest.mark.parametrize("shape", [(24, 40), (1, 1), (3, 50)])
def test_any_picture_keeps_its_size_and_is_damaged_alike_each_time(perturbation, shape):
    image = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    before = image.copy()
    made = perturbation.apply(image, "a")
    assert made.shape == image.shape and made.dtype == np.uint8
    assert np.array_equal(image, before)
    assert np.array_equal(made, perturbation.apply(image, "a"))


def test_noise_has_the_sigma_it_names_and_differs_between_pictures():
    gray = np.full((80, 80, 3), 128, np.uint8)
    made = perturbations.noise(gray, "a", 0.1)
    assert (made / 255 - gray / 255).std() == pytest.approx(0.1, rel=0.03)
    assert not np.array_equal(made, perturbations.noise(gray, "b", 0.1))


@pytest.mark.parametrize(("size", "sigma"), [(5, 1.1), (9, 1.7), (15, 2.6)])
def test_blur_spreads_a_point_as_opencv_would(size, sigma):
    image = np.zeros((31, 31, 3), np.uint8)
    image[15, 15] = 255
    made = perturbations.blur(image, "", size).astype(float)[..., 0]
    taps = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    wanted = np.zeros((31, 31))
    reach = size // 2
    wanted[15 - reach : 16 + reach, 15 - reach : 16 + reach] = 255 * np.outer(taps, taps)
    assert np.abs(made - wanted).max() <= 0.5


def test_blur_mirrors_the_edge_and_keeps_what_is_even():
    assert np.array_equal(
        perturbations.blur(np.full((9, 9, 3), 77, np.uint8), "", 15), np.full((9, 9, 3), 77)
    )


def test_jpeg_is_what_pillow_writes():
    image = gradient()
    stored = io.BytesIO()
    PILImage.fromarray(image).save(stored, "JPEG", quality=20, subsampling=2)
    assert np.array_equal(perturbations.jpeg(image, "", 20), np.array(PILImage.open(stored)))


class Blind:
    """Sees everything in smooth pictures and nothing in noisy ones."""

    name = "blind"

    def diagnose(self, images):
        mask = np.zeros((24, 40), bool)
        mask[:, :20] = True
        found = Finding(mask, "a", "b", "physics", 1.0)
        return [
            Diagnosis((found,) if np.abs(np.diff(image.astype(int), axis=0)).max() < 30 else ())
            for image in images
        ]

    def describe(self):
        return {}


def test_losses_are_paired_and_false_alarms_go_along():
    mask = np.zeros((24, 40), bool)
    mask[:, :20] = True
    flawed = Sample(gradient(), (Finding(mask, "a", "b", "physics", 1.0),))
    pictures = [Picture(0, "0", "", flawed, False), Picture(1, "1", "", Sample(gradient(), ()), True)]
    rows = list(robustness.look(Blind(), pictures))
    assert [row["index"] for row in rows] == [0, 1]
    found = {(f.group, f.name): f for f in robustness.figures(rows)}
    assert found["none", "F1"].interval.mean == found["blur 15", "F1"].interval.mean == 1.0
    assert found["noise 0.3", "F1 lost"].interval.mean == 1.0 and found["noise 0.3", "F1 lost"].difference
    assert found["noise 0.3", "false alarms"].interval.mean == 0.0
    assert found["none", "false alarms"].interval.mean == 1.0
    assert ("none", "F1 lost") not in found
    lossless = {name for (name, figure), f in found.items() if figure == "F1 lost" and not f.interval.mean}
    assert "blur 15" in lossless and "noise 0.3" not in lossless
    said = robustness.conclusion(list(found.values()))
    assert said == "Worst is noise 0.1, which costs 100.0 points of F1 [100.0, 100.0]."
    assert robustness.conclusion(robustness.figures(rows[1:])) == ""

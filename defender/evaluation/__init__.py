"""How good a defender is: figures with intervals, one file per question; and its calibration.

localization   where the artifacts are                     explanation   whether the words are right
detection      real or generated                           robustness    the same on damaged pictures
guidance       whether the text guides the masks           calibration   when the defender speaks up

`tasks` runs them over a data set, `journal` keeps what was measured so far, `tables` shows it beside what was
published. The functions here are for those who only want the numbers.
"""

from __future__ import annotations

from collections.abc import Iterator

from contracts.protocols import Defender
from contracts.records import Diagnosis
from defender.checkpoint import Thresholds
from defender.datasets import Samples
from defender.evaluation import detection, localization
from defender.evaluation.calibration import FALSE_ALARMS, NOTHING, gather, thresholds_from
from defender.evaluation.figures import Figure, Row
from defender.evaluation.pictures import Picture, Source, batches, diagnosed
from defender.legion_defender import LegionDefender


def measured(defender: Defender, samples: Samples) -> list[Figure]:
    """Localization of annotated samples, and accuracy of the detection head; shares from 0 to 1.

    Figures without anything to measure are left out.
    """
    rows: list[Row] = []
    for pictures in _all_of(samples):
        rows += diagnosed(defender, pictures, _measure)
    known = [row for row in rows if "synthetic" in row]
    return [*localization.figures(rows), *(detection.figures(known) if known else [])]


def calibrate(defender: LegionDefender, samples: Samples, false_alarms: float = FALSE_ALARMS) -> Thresholds:
    """Thresholds chosen on annotated samples. Raises InvalidInput if there are too few to choose on."""
    evidence = NOTHING
    for pictures in _all_of(samples):
        evidence += gather(defender, pictures)
    return thresholds_from(evidence, defender.thresholds, false_alarms, fewest=1)


def _all_of(samples: Samples) -> Iterator[list[Picture]]:
    source = Source("samples", samples, annotated=True)
    for together in batches(source, range(len(samples))):
        yield [picture for picture in together if isinstance(picture, Picture)]


def _measure(picture: Picture, diagnosis: Diagnosis) -> Row:
    row = localization.measure(picture, diagnosis)
    if picture.sample.is_real is not None and diagnosis.synthetic_probability is not None:
        row |= detection.measure(picture, diagnosis)
    return row

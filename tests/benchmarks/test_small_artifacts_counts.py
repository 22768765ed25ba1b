"""What counts as found, and at which limit false alarms stay within their share."""

import numpy as np
import pytest

from benchmarks.small_artifacts import counts, limit_for, surest
from contracts.records import Diagnosis, Finding

SIDE = 100


def square(top, left, side):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def said(*found):
    findings = tuple(Finding(mask, "a", "b", "physics", confidence) for mask, confidence in found)
    return Diagnosis(findings, None, "")


@pytest.mark.parametrize(("target", "allowed"), [(0.0, 0), (0.2, 1), (0.25, 1), (0.6, 3), (1.0, 5)])
def test_as_many_sound_pictures_raise_an_alarm_as_allowed(target, allowed):
    confidences = [0.9, 0.1, 0.5, 0.7, 0.3]
    limit = limit_for(target, confidences)
    assert sum(c >= limit for c in confidences) == allowed
    assert limit_for(target, confidences[::-1]) == limit


def test_sizes_are_counted_apart_and_unsure_findings_not_at_all():
    small, large = square(0, 0, 9), square(40, 40, 30)
    diagnosis = said((square(0, 0, 8), 0.9), (square(40, 40, 29), 0.4))
    assert counts(diagnosis, [small, large], 0.5, 0, 0.01) == (1, 1)
    assert counts(diagnosis, [small, large], 0.5, 0.01, 1) == (0, 1)
    assert counts(diagnosis, [small, large], 0.3, 0.01, 1) == (1, 1)
    assert surest(diagnosis) == 0.9 and surest(said()) == 0.0


def test_a_finding_has_to_cover_a_quarter():
    wanted = square(0, 0, 8)
    assert counts(said((square(0, 0, 4), 1.0)), [wanted], 0.5, 0, 0.01) == (1, 1)
    assert counts(said((square(0, 0, 3), 1.0)), [wanted], 0.5, 0, 0.01) == (0, 1)

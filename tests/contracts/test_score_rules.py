"""Only scores of one scorer, in one version, are ever set against each other."""

import pytest

from contracts.errors import ModelError
from contracts.records import Score
from contracts.scores import check_comparable, difference, mean


def test_scores_of_one_version_have_a_difference_and_a_mean():
    old, new = Score("hps", "v2.1", 0.25), Score("hps", "v2.1", 0.75)
    assert difference(new, old) == 0.5 and difference(old, new) == -0.5
    assert mean([old, new]) == 0.5 and mean([old]) == 0.25
    check_comparable([])


@pytest.mark.parametrize("other", [Score("hps", "v2.0", 0.5), Score("pick", "v2.1", 0.5)])
@pytest.mark.parametrize("use", [lambda a, b: difference(a, b), lambda a, b: mean([a, a, b])])
def test_scores_of_another_version_or_scorer_are_refused(other, use):
    ours = Score("hps", "v2.1", 0.5)
    for pair in ((ours, other), (other, ours)):
        with pytest.raises(ModelError, match="cannot be compared") as caught:
            use(*pair)
        assert "\n" not in str(caught.value)


def test_the_error_shows_what_differs():
    with pytest.raises(
        ModelError, match=r"\[hpsv2; antialias=true\] and by version \[hpsv2; antialias=false\]"
    ):
        difference(Score("hps", "hpsv2; antialias=false", 1), Score("hps", "hpsv2; antialias=true", 1))


def test_no_scores_have_no_mean():
    with pytest.raises(ModelError, match="no score"):
        mean([])

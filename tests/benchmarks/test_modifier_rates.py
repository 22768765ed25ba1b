"""How often a real language model passes the rules with examples and without; the better is used."""

from __future__ import annotations

import pytest

from benchmarks.modifier import TABLE, WORLD, Figures, better, measure
from controller.llm_modifier import RevisionSettings
from flows.language_models import local_chat
from flows.profiles.language import ModifierProfile

TRIES = 2


def figures(passed: int, first: int, seconds: float) -> Figures:
    """Of six cases."""
    answers = [1.0] * 6
    return Figures(
        [1.0] * first + [0.0] * (6 - first), [1.0] * passed + [0.0] * (6 - passed), seconds, answers
    )


@pytest.mark.parametrize(
    ("shown", "not_shown", "examples"),
    [
        (figures(5, 2, 9.0), figures(4, 4, 1.0), True),  # what passes in the end comes first
        (figures(3, 3, 1.0), figures(4, 0, 9.0), False),
        (figures(4, 3, 9.0), figures(4, 2, 1.0), True),  # then what passes at once
        (figures(4, 2, 1.0), figures(4, 3, 9.0), False),
        (figures(4, 3, 1.0), figures(4, 3, 2.0), True),  # then time
        (figures(4, 3, 2.0), figures(4, 3, 1.0), False),
    ],
)
def test_the_better_is_picked(shown, not_shown, examples) -> None:
    assert better({True: shown, False: not_shown}) is examples


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_real_models_revisions_pass_at_least_as_often_with_examples_and_that_is_the_default() -> None:
    """SmolLM2-135M behind llama.cpp's own server, without chance, on cases of both kinds."""
    chat = local_chat(ModifierProfile(kind="local", lexicon="general", timeout=300, temperature=0.0))
    results = {
        shown: measure(chat, shown, TRIES, world=WORLD[:3], table=TABLE[:3]) for shown in (True, False)
    }
    passed = {shown: sum(found.passed) for shown, found in results.items()}
    assert passed[True] >= passed[False], passed
    assert passed[True] > 0, passed  # neither is worth anything where the rules write all
    assert better(results) is RevisionSettings().examples, results
    for found in results.values():
        assert 6 <= len(found.answers) <= 6 * TRIES and sum(found.answers) <= 6 * found.seconds

"""The category is read off the explanation."""

import pytest

from defender.categories import categorize
from tabletop.explanations import sentences
from tabletop.flaws import KINDS


@pytest.mark.parametrize("category", KINDS)
def test_every_sentence_of_the_tabletop_world(category):
    for kind in KINDS[category]:
        for sentence in sentences(kind):
            told = sentence.format(shape="cube", side="left")
            assert categorize("the red cube", told) == category, sentence


@pytest.mark.parametrize(
    ("category", "phrase", "explanation"),
    [
        ("structure", "left hand", "has six fingers, which is anatomically incorrect."),
        ("structure", "sign", "the letters are illegible and do not form words."),
        ("structure", "her eyes", "the eyes are asymmetrical and misaligned."),
        ("physics", "the lamp", "casts no shadow although it stands in strong light."),
        ("physics", "mirror", "the reflection does not match the person in front of it."),
        ("distortion", "background", "the texture is blurred and looks smeared."),
        ("distortion", "skin", "overly smooth, plastic-like texture with unnatural color."),
        ("structure", "it", "something is off here."),
    ],
)
def test_sentences_like_synthscars(category, phrase, explanation):
    assert categorize(phrase, explanation) == category

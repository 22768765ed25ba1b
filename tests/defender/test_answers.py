"""Phrase, mask and explanation stay together, whatever the answer looks like."""

import json
import string

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from upstream_fixtures import FIXTURES

from contracts.records import Finding
from defender.answers import CLEAN_ANSWER, OPENING, UNNAMED, caption, compose, parse


def finding(phrase, explanation):
    return Finding(np.zeros((2, 2), dtype=bool), phrase, explanation, "physics", 1.0)


letters = st.text(string.ascii_lowercase, min_size=3, max_size=8)
words = letters.filter(lambda word: word not in ("and", "the", "with", "well", "also"))
sentences = st.lists(words, min_size=1, max_size=6).map(" ".join)


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=6))
def test_what_is_composed_is_parsed_again(said):
    """Also where phrases repeat: hypothesis draws equal ones often enough to matter."""
    said = said + said[:1]
    claims = parse(compose([finding(p, e) for p, e in said]))
    assert [(c.phrase, c.explanation) for c in claims] == [(p, f"{e}.") for p, e in said]


def test_clean_answer_claims_nothing():
    assert compose([]) == CLEAN_ANSWER
    assert parse(CLEAN_ANSWER) == []


def test_answer_cut_off_inside_a_phrase_keeps_the_earlier_claims():
    claims = parse(f"{OPENING} <p> hand </p> [SEG] : six fingers. <p> the si")
    assert claims == [("hand", "six fingers.")]


def test_answer_cut_off_before_its_mask_drops_only_that_claim():
    claims = parse(f"{OPENING} <p> hand </p> [SEG] : six fingers. <p> sign </p>")
    assert claims == [("hand", "six fingers.")]


def test_a_mask_without_a_phrase_shifts_nobody():
    claims = parse("[SEG] : odd. <p> sign </p> [SEG] : unreadable.")
    assert claims == [(UNNAMED, "odd."), ("sign", "unreadable.")]


def test_a_phrase_without_a_mask_shifts_nobody():
    claims = parse("<p> wall </p> is fine. <p> sign </p> [SEG] : unreadable.")
    assert claims == [("sign", "unreadable.")]


def test_explanations_in_a_second_part_find_their_phrases():
    """SynthScars' own layout, with a phrase that occurs twice."""
    claims = parse(
        "I have found: <p> hand </p> [SEG], <p> sign </p> [SEG] and <p> hand </p> [SEG]. To elaborate. "
        "hand : six fingers. sign : unreadable. hand : no thumb."
    )
    assert claims == [("hand", "six fingers."), ("sign", "unreadable."), ("hand", "no thumb.")]


def test_known_upstream_parsing_cases():
    """The original's cases, tagged: including those where it failed or lost a repeated phrase."""
    path = FIXTURES / "extract_explanations.json"
    lost_by_the_original = {
        ("Left hand",): [("Left hand", "is bad")],
        ("A", "A"): [("A", "x"), ("A", "y")],
    }
    for case in json.loads(path.read_text()):
        text, at = case["caption"], 0
        for phrase in case["phrases"]:
            start = text.index(phrase, at)
            tagged = f"<p> {phrase} </p> [SEG]"
            text, at = text[:start] + tagged + text[start + len(phrase) :], start + len(tagged)
        expected = lost_by_the_original.get(tuple(case["phrases"])) or [tuple(pair) for pair in case["out"]]
        if case["caption"] == "Left hand : bad. Sign : worse":
            expected = [("Left hand", "bad."), ("Sign", "worse")]
        assert parse(text) == expected, case["caption"]


def test_caption_has_no_tags():
    assert caption("The <p> sign </p> [SEG] is <s> wrong</s>") == "The sign is wrong"

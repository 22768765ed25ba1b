"""What a prompt must keep and must not say, over prompts as people write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.records import CATEGORIES, Finding, RevisionRequest
from controller.modifiers import WordLimit
from controller.revision_rules import broken_rules
from controller.subject import lost, phrases
from prompts import load_lexicon
from prompts.lexicon import lexicon_names
from prompts.words import load_words

WORDS = load_words()
CONE = "a red cone on a wooden table"


def finding(explanation, phrase="the cone", category="structure"):
    return Finding(np.ones((2, 2), bool), phrase, explanation, category, 0.9)


def broken(prompt, user=CONE, *found, earlier=(), fits=lambda _: True, unknown=lambda _: ()):
    request = RevisionRequest(user, user, found, earlier_prompts=earlier)
    return broken_rules(prompt, request, WORDS, fits, unknown)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (CONE, [("red", "cone"), ("wooden", "table")]),
        ("Two cats, sleeping under the old sofa!", [("two", "cats"), ("sleeping",), ("old", "sofa")]),
        ("a dog's tail", [("dog", "tail")]),
        ("a well-lit room", [("well", "lit", "room")]),
        ("一只猫", [("一只猫",)]),
        ("🐈", []),
    ],
)
def test_phrases_are_what_lies_between_function_words(prompt, expected):
    assert phrases(prompt, WORDS) == expected


@pytest.mark.parametrize(
    ("user", "prompt"),
    [
        (CONE, f"{CONE}, natural shadow"),
        (CONE, "On a polished wooden kitchen table stands a red matte cone"),
        (CONE, "A RED CONE on a Wooden Table."),
        ("a couch in a gray room", "a sofa in a grey room"),
        ("a photo of two cats", "a photograph of 2 cats"),
        ("a cat under a table", "a cat beneath a table"),
        ("a room without windows", "a bright room without windows"),
        ("🐈", "🐈, soft light"),
    ],
)
def test_the_subject_is_kept(user, prompt):
    assert lost(user, prompt, WORDS) == []


@pytest.mark.parametrize(
    ("user", "prompt", "gone"),
    [
        (CONE, "a red ball on a wooden table", ["red cone"]),
        (CONE, "a wooden cone on a red table", ["red cone", "wooden table"]),
        (CONE, "a red cube, a cone on a wooden table", ["red cone"]),
        (CONE, "a red cube, cone on a wooden table", ["red cone"]),
        (CONE, "a red cube and cone on a wooden table", ["red cone"]),
        (CONE, "a red cone", ["wooden table"]),
        ("two cats", "a cat", ["two cats"]),
        ("a cat under a table", "a cat on a table", ["under"]),
        ("a room without windows", "a room with windows", ["without"]),
        ("🐈", "a cat", ["🐈"]),
        (CONE, "I'm sorry, but I can't help with that.", ["red cone", "wooden table"]),
    ],
)
def test_a_subject_that_drifts_is_noticed(user, prompt, gone):
    assert lost(user, prompt, WORDS) == gone


SIX = finding("the hand has six fingers instead of five fingers", "the hand")
LEGS = finding("the cat has five legs", "the cat")


@pytest.mark.parametrize(
    ("prompt", "user", "found", "told"),
    [
        ("a cat with five legs", "a cat", [LEGS], "repeats the flaw"),
        ("a cat, 5 leg", "a cat", [LEGS], "repeats the flaw"),
        ("a man, a hand with six fingers", "a man", [SIX], "repeats the flaw"),
        (
            f"{CONE}, shadow falls toward the light",
            CONE,
            [finding("the shadow falls toward the light")],
            "repea",
        ),
        (
            "a bike, an oval wheel",
            "a bike",
            [finding("the wheel is oval and its spokes merge")],
            '"oval" repeats',
        ),
        ("a man, pale face", "a man", [finding("the skin looks waxy and pale")], '"pale" repeats'),
        (f"{CONE}, not deformed", CONE, [], '"not" names a flaw'),
        (f"{CONE}, deformed edges", CONE, [], '"deformed" names a flaw'),
        (f"{CONE}, a clean prompt", CONE, [], "talks about the task"),
        (
            "a cat on a sofa, a cat with four legs",
            "a cat on a sofa",
            [LEGS],
            '"cat" would be painted once more',
        ),
        (f"{CONE}, clean, clean", CONE, [], "said twice"),
        (f"{CONE}, one soft even light, one soft even glow", CONE, [], "said twice"),
        (CONE.upper() + ".", CONE, [], "tried before"),
        (f"{CONE}\nnatural shadow", CONE, [], "one line"),
        (f'{{"prompt": "{CONE}"}}', CONE, [], "plain text"),
        (f"{CONE}, see https://x.y", CONE, [], "plain text"),
        (f"{CONE}, clean surface (structure)", CONE, [], "plain text"),
    ],
)
def test_each_rule_catches_its_fault(prompt, user, found, told):
    assert any(told in problem for problem in broken(prompt, user, *found))


@pytest.mark.parametrize(
    ("prompt", "user", "found"),
    [
        ("a man, a hand with five fingers", "a man", [SIX]),
        ("a broken vase, sharp focus", "a broken vase", []),
        ("a cat with five legs, sharp focus", "a cat with five legs", [LEGS]),
        ("a room without people, soft light", "a room without people", []),
        (f"{CONE}, shadow falling away from the light", CONE, [finding("the shadow falls toward the light")]),
        (
            f"{CONE}, shadow falling to the right",
            CONE,
            [finding("the shadow is falling toward the light, which is on the left")],
        ),
        ("a cat and a cat, soft light", "a cat and a cat", []),
        ("(red cone:1.2) [x], soft light", "(red cone:1.2) [x]", []),
    ],
)
def test_what_is_right_or_the_users_own_passes(prompt, user, found):
    assert broken(prompt, user, *found) == []


def test_words_of_examples_are_not_carried_over():
    request = RevisionRequest("two sailors", "two sailors", ())
    broken = broken_rules(
        "two sailors, a calm lighthouse",
        request,
        WORDS,
        lambda _: True,
        lambda _: (),
        {"sailors", "lighthouse"},
    )
    assert broken == ['"lighthouse" belongs to an example']


def test_earlier_prompts_length_and_vocabulary():
    new = f"{CONE}, soft light"
    assert broken(new) == []
    assert broken(new, earlier=(f"{CONE}; Soft light",)) == ["this prompt was tried before"]
    assert broken(new, fits=WordLimit(8)) == ["it is longer than the painter can read"]
    unknown = lambda text: [w for w in ("soft", "red") if w in text]  # noqa: E731
    assert broken(new, unknown=unknown) == ['the painter does not know "soft"']


@pytest.mark.parametrize("name", lexicon_names())
def test_our_own_phrases_break_no_rule(name):
    for phrase in load_lexicon(name).phrases:
        assert broken(f"a harbor at dawn, {phrase}", "a harbor at dawn") == [], phrase


plain = st.lists(
    st.sampled_from("red cone old dog tall tree on a the of two".split()), min_size=1, max_size=8
)


@given(plain, st.sampled_from([p for n in lexicon_names() for p in load_lexicon(n).phrases]))
def test_whatever_is_added_after_the_users_words_keeps_the_subject(words, phrase):
    user = " ".join(words)
    assert lost(user, f"{user}, {phrase}", WORDS) == []


@given(st.text(max_size=60), st.text(max_size=60), st.sampled_from(CATEGORIES))
def test_any_text_is_survived_and_never_equals_its_own_revision(user, prompt, category):
    assert isinstance(broken(prompt, user, finding(prompt, user, category)), list)
    assert "this prompt was tried before" in broken(user, user)

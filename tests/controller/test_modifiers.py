import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidInput, ModelError
from contracts.records import CATEGORIES, Finding, RevisionRequest
from controller.modifiers import (
    NO_ROOM,
    NOTHING_FOUND,
    NOTHING_NEW,
    RuleBasedModifier,
    WordLimit,
    says,
)
from prompts import load_lexicon

TABLETOP, GENERAL = load_lexicon("tabletop"), load_lexicon("general")
CONE = "a red cone on a wooden table"


def finding(category, phrase="the cone", explanation="", confidence=1.0, cells=4) -> Finding:
    mask = np.zeros((4, 4), bool)
    mask.flat[:cells] = True
    return Finding(mask, phrase, explanation, category, confidence)


def revise(lexicon, findings, user=CONE, current=None, fits=lambda _: True):
    request = RevisionRequest(user, user if current is None else current, tuple(findings))
    return RuleBasedModifier(lexicon, fits).revise([request])[0]


def test_a_finding_becomes_its_positive_constraint_after_the_users_words():
    revision = revise(TABLETOP, [finding("physics", "the shadow")])
    assert revision.prompt == f"{CONE}, natural shadow"
    assert revision.addressed == ("the shadow",)
    assert revision.reason == 'added "natural shadow" (physics)'


def test_constraints_of_earlier_rounds_stay_and_keep_the_lexicons_order():
    revision = revise(TABLETOP, [finding("physics")], current=f"{CONE}, clean surface")
    assert revision.prompt == f"{CONE}, natural shadow, clean surface"


def test_several_findings_of_one_category_are_answered_by_one_phrase():
    revision = revise(TABLETOP, [finding("structure", "the tip"), finding("structure", "the rim")])
    assert revision.prompt == f"{CONE}, perfect shape"
    assert revision.addressed == ("the tip", "the rim")


def test_the_explanation_chooses_among_the_general_phrases():
    hand = finding("structure", "the left hand", "it has six fingers")
    sign = finding("structure", "the sign", "its letters are garbled", confidence=0.5)
    assert revise(GENERAL, [sign, hand]).prompt == (
        f"{CONE}, a hand with five fingers, clearly legible lettering"
    )


def test_a_flaw_that_persists_gets_the_next_phrase_of_its_category():
    hand = finding("structure", "the left hand", "it has six fingers")
    first = revise(GENERAL, [hand])
    second = revise(GENERAL, [hand], current=first.prompt)
    assert second.prompt == f"{first.prompt}, well-formed objects"


def test_the_user_is_not_told_twice():
    user = "a cone with a Natural Shadow"
    revision = revise(TABLETOP, [finding("physics"), finding("distortion")], user=user)
    assert revision.prompt == f"{user}, clean surface"


def test_a_phrase_inside_a_longer_word_does_not_count():
    assert says("a cone, clean surface.", "clean surface")
    assert not says("an unclean surface", "clean surface") and not says("clean surfaces", "clean surface")


def test_nothing_new_returns_the_same_prompt_and_says_so():
    current = f"{CONE}, natural shadow"
    revision = revise(TABLETOP, [finding("physics")], current=current)
    assert (revision.prompt, revision.addressed, revision.reason) == (current, (), NOTHING_NEW)
    assert revise(TABLETOP, [], current=current).prompt == current
    assert revise(TABLETOP, [], current=current).reason == NOTHING_FOUND


def test_where_room_is_short_the_worst_finding_comes_first():
    findings = [finding("physics", cells=1), finding("structure", cells=9), finding("distortion", cells=5)]
    revision = revise(TABLETOP, findings, fits=WordLimit(len(CONE.split()) + 2))
    assert revision.prompt == f"{CONE}, perfect shape"
    assert revise(TABLETOP, findings, fits=WordLimit(3)).reason == NO_ROOM


def test_punctuation_at_the_end_of_the_users_prompt_is_kept():
    assert revise(TABLETOP, [finding("physics")], user="A red cone.").prompt == "A red cone. natural shadow"


def test_words_of_another_modifier_are_dropped_but_known_phrases_are_kept():
    current = "a drifting blue whale, perfect shape"
    revision = revise(TABLETOP, [finding("physics")], current=current)
    assert revision.prompt == f"{CONE}, natural shadow, perfect shape"


def test_each_request_of_a_batch_is_answered_by_itself():
    modifier = RuleBasedModifier(TABLETOP)
    requests = [RevisionRequest(CONE, CONE, (finding(c),)) for c in CATEGORIES]
    assert modifier.revise(requests) == [modifier.revise([r])[0] for r in requests]
    assert modifier.revise([]) == []


def test_an_unusable_confidence_is_an_error():
    with pytest.raises(ModelError, match="nan"):
        revise(TABLETOP, [finding("physics", confidence=float("nan"))])


def test_a_description_is_data_and_the_same_in_every_process():
    described = RuleBasedModifier(TABLETOP, lambda _: True).describe()
    assert described == {"name": "rules", "lexicon": "tabletop", "lexicon_digest": TABLETOP.digest}
    assert RuleBasedModifier(TABLETOP, WordLimit(9)).describe()["max_words"] == 9
    json.dumps(described)


def test_a_word_limit_below_one_is_refused():
    with pytest.raises(InvalidInput):
        WordLimit(0)


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=40)
texts = st.sampled_from(["the hand", "six fingers", "a shadow", "garbled text", "blurry noise", "\\1 (", ""])
some_findings = st.lists(
    st.builds(finding, st.sampled_from(CATEGORIES), texts, texts, st.floats(0, 1), st.integers(0, 16)),
    max_size=6,
)


@given(words, some_findings, st.sampled_from([TABLETOP, GENERAL]), st.integers(1, 60))
def test_over_any_rounds_the_subject_stays_and_phrases_only_gather(user, found, lexicon, limit):
    fits, current, before = WordLimit(limit), user, []
    for _ in range(6):
        revision = revise(lexicon, found, user=user, current=current, fits=fits)
        assert revision.prompt.startswith(user)
        assert revision.prompt == current or fits(revision.prompt)
        added = revision.prompt[len(user) :]
        now = [phrase for phrase in lexicon.phrases if says(added, phrase)]
        assert set(before) <= set(now)
        assert all(added.lower().count(phrase.lower()) == 1 for phrase in now)
        assert (revision.prompt != current) == bool(revision.addressed)
        assert set(revision.addressed) <= {f.phrase for f in found}
        current, before = revision.prompt, now

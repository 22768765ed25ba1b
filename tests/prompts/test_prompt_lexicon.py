import re

import pytest

from contracts.errors import InvalidInput
from contracts.records import CATEGORIES
from prompts.lexicon import lexicon_names, load_lexicon, parse_lexicon

NEGATIVE = re.compile(
    r"\b(no|not|without|avoid|never|wrong|bad|missing|extra|deformed|distort\w*|blur\w*|nois[ey]|artifacts?|flaws?"
    r"|float\w*|broken|melt\w*|twist\w*|smear\w*|bent|dent\w*)\b"
)


def test_tabletop_speaks_the_words_of_the_bundled_generator():
    lexicon = load_lexicon("tabletop")
    assert lexicon.phrases == ("natural shadow", "perfect shape", "clean surface")
    assert lexicon.candidates("physics", "anything at all") == ["natural shadow"]
    assert lexicon.candidates("structure", "") == ["perfect shape"]
    assert lexicon.candidates("distortion", "noise") == ["clean surface"]


@pytest.mark.parametrize("name", lexicon_names())
def test_every_lexicon_covers_every_category_and_names_no_flaw(name):
    lexicon = load_lexicon(name)
    for category in CATEGORIES:
        assert lexicon.candidates(category, "")
    for phrase in lexicon.phrases:
        assert not NEGATIVE.search(phrase), phrase
        assert len(phrase.split()) <= 10


@pytest.mark.parametrize(
    ("category", "text", "phrase"),
    [
        ("structure", "The left Hands have six fingers", "a hand with five fingers"),
        ("physics", "the shadow points toward the sun", "shadows falling away from the light source"),
        ("structure", "garbled letters on the sign", "clearly legible lettering"),
        ("distortion", "the background is blurry", "sharp focus"),
    ],
)
def test_keywords_choose_the_phrase(category, text, phrase):
    assert load_lexicon("general").candidates(category, text)[0] == phrase


def test_keywords_are_whole_words_and_belong_to_their_category():
    general = load_lexicon("general")
    assert "a hand with five fingers" not in general.candidates("structure", "a chandelier is bent")
    assert "a hand with five fingers" not in general.candidates("physics", "the hand casts light")


def test_the_general_phrases_of_a_category_follow_the_specific_ones():
    assert load_lexicon("general").candidates("structure", "hand")[1:] == [
        "well-formed objects",
        "accurate, complete shapes",
    ]


COMPLETE = "".join(f'[[constraint]]\ncategory = "{c}"\nphrase = "p {c}"\n' for c in CATEGORIES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not toml", "not TOML"),
        ("", "constraint"),
        (COMPLETE + '[[constraint]]\ncategory = "magic"\nphrase = "x"', "magic"),
        (COMPLETE + '[[constraint]]\ncategory = "physics"\nphrase = " "', "without a phrase"),
        (COMPLETE + '[[constraint]]\ncategory = "physics"\nphrase = "p physics"', "repeats 'p physics'"),
        (COMPLETE + '[[constraint]]\ncategory = "physics"\nphrase = "x"\nkeyword = ["y"]', "'keyword'"),
        (COMPLETE + '[[constraint]]\ncategory = "physics"\nphrase = "x"\nkeywords = "y"', "list of words"),
        ('[[constraint]]\ncategory = "physics"\nphrase = "x"', "structure"),
    ],
)
def test_a_malformed_lexicon_is_refused_in_one_line(text, message):
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        parse_lexicon(text, "mine")
    assert "mine" in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_lexicon_is_named():
    with pytest.raises(InvalidInput, match="'tabeltop'.*'tabletop'"):
        load_lexicon("tabeltop")


def test_the_digest_follows_the_content():
    assert parse_lexicon(COMPLETE, "a").digest != parse_lexicon(COMPLETE + "\n# more", "a").digest

"""The bundled tokenizer: each word of the grammar is one token, any other word has a spelling."""

import subprocess
import sys

from tabletop import captions
from tabletop.clip import build_tokenizer, byte_pair_merges


def test_every_known_word_is_one_token():
    tokenizer = build_tokenizer()
    assert {w: len(tokenizer.tokenize(w)) for w in captions.vocabulary()} == dict.fromkeys(
        captions.vocabulary(), 1
    )


def test_unknown_words_survive_the_round_trip():
    tokenizer = build_tokenizer()
    for text in ("zebra", "naïve café", "ein roter kegel", "猫", "🙂"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_merges_are_the_same_in_another_process():
    code = "from tabletop import captions, clip; print(clip.byte_pair_merges(captions.vocabulary()))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == str(byte_pair_merges(captions.vocabulary()))

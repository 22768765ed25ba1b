"""Tokens and conversations of a small tokenizer trained here."""

from dataclasses import replace

import pytest
import torch

from contracts.errors import CheckpointError
from defender.answers import CLEAN_ANSWER, OPENING
from defender.config import IGNORE_INDEX, IMAGE_ID, TokenIds
from defender.text import Dialog, Tokenizer, pad_conversations, train_tokenizer


def test_special_ids_of_a_trained_tokenizer(dialog):
    pieces = dialog.tokenizer._pieces
    assert [pieces.id_to_piece(i) for i in range(3)] == ["<unk>", "<s>", "</s>"]
    assert dialog.tokenizer.tokens == TokenIds.after(len(pieces))


def test_bytes_carry_what_was_never_seen(dialog):
    ids = dialog.tokenizer.encode("Ünïcode 猫", bos=False)
    assert 0 not in ids
    assert dialog.tokenizer.decode(ids) == "Ünïcode 猫"


def test_byte_pieces_are_left_out_where_they_do_not_fit(tmp_path):
    tokens = train_tokenizer(["a red cone", "the red ball"], tmp_path / "t.model", 40)
    assert tokens.im_start <= 40
    tokenizer = Tokenizer.load(tmp_path / "t.model", tokens)
    assert tokenizer.decode(tokenizer.encode("a red ball", bos=False)) == "a red ball"


def test_labels_cover_the_answer_and_its_end(dialog):
    conversation = dialog.with_answer(CLEAN_ANSWER)
    asked = len(dialog.prompt)
    assert conversation.ids[:asked] == dialog.prompt
    assert conversation.ids.count(IMAGE_ID) == 1
    assert set(conversation.labels[:asked]) == {IGNORE_INDEX}
    assert conversation.labels[asked:] == conversation.ids[asked:]
    assert conversation.ids[-1] == dialog.config.tokens.eos


def test_the_two_openings_differ_in_their_first_token(dialog):
    artifact, clean = dialog.first_ids(OPENING, CLEAN_ANSWER)
    assert artifact != clean


def test_padding(dialog):
    conversations = [dialog.with_answer(OPENING), dialog.with_answer(CLEAN_ANSWER)]
    ids, labels, attention = pad_conversations(conversations, 0, multiple=16)
    assert ids.shape == labels.shape == attention.shape and ids.shape[1] % 16 == 0
    assert attention.sum(1).tolist() == [len(c.ids) for c in conversations]
    assert (labels[~attention] == IGNORE_INDEX).all() and (ids[~attention] == 0).all()
    assert ids.dtype == torch.int64


def test_ids_that_only_fill_up_a_matrix_say_nothing(tmp_path, dialog):
    pieces = len(dialog.tokenizer._pieces)
    tokens = TokenIds.after(pieces + 5)
    wide = Tokenizer(dialog.tokenizer.model, tokens)
    words = wide.encode("red ball", bos=False)
    assert wide.decode([pieces, *words, pieces + 4, tokens.seg, pieces + 50]) == "red ball [SEG]"


def test_broken_and_foreign_tokenizers(tmp_path, dialog):
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="not a SentencePiece model"):
        Tokenizer.load(tmp_path / "tokenizer.model", dialog.config.tokens)
    with pytest.raises(CheckpointError, match="cannot read"):
        Tokenizer.load(tmp_path / "missing.model", dialog.config.tokens)
    with pytest.raises(CheckpointError, match="overlap"):
        Tokenizer(dialog.tokenizer.model, TokenIds.after(100))


def test_a_question_that_fills_the_limit_is_refused_in_one_line(dialog):
    asked = len(dialog.prompt)
    narrow = Dialog(replace(dialog.config, max_text_tokens=asked), dialog.tokenizer)
    with pytest.raises(CheckpointError, match=f"question alone has {asked} tokens.*so raise it"):
        narrow.with_answer(CLEAN_ANSWER)
    assert narrow.first_ids(OPENING, CLEAN_ANSWER) == dialog.first_ids(OPENING, CLEAN_ANSWER)
    barely = Dialog(replace(dialog.config, max_text_tokens=asked + 2), dialog.tokenizer)
    cut = barely.with_answer(CLEAN_ANSWER)
    assert len(cut.ids) == len(cut.labels) == asked + 2
    assert cut.ids[asked:] == dialog.with_answer(CLEAN_ANSWER).ids[asked : asked + 2]


def test_texts_between_tokens_do_not_mind_the_same_letters(dialog):
    spelled = [i for part in ("[SE", "G] here") for i in dialog.tokenizer.encode(part, bos=False)]
    seg = dialog.config.tokens.seg
    assert seg not in spelled
    texts = dialog.tokenizer.decode_between([*spelled, seg, *spelled[:-1], seg], seg)
    assert len(texts) == 3 and texts[2] == ""
    assert texts[0].replace(" ", "") == "[SEG]here"

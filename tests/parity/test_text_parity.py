"""Tokens, labels and decoding equal what the original's tokenizer produced."""

import json
import re

import pytest
import torch

from defender.answers import caption, claims_between, parse
from defender.config import IMAGE_ID, INSTRUCTION, SYSTEM, LegionConfig, TokenIds
from defender.text import IMAGE, Dialog, Tokenizer, pad_conversations


@pytest.fixture(scope="module")
def cases(folder):
    return json.loads((folder / "text_cases.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(folder, cases):
    tokens = TokenIds.after(cases["tokenizer"]["base_vocab"])
    return Tokenizer.load(folder / "tokenizer" / "tokenizer.model", tokens)


def with_upstreams_losses(text):
    """A caption without what the original's clean-up takes for tags or quotes, though it is text."""
    return " ".join(re.sub("<.*?>", "", text).split()).strip("'").strip()


def phrases_with_masks(answer):
    """What the original reads as phrases, as far as a [SEG] follows: others have no mask."""
    return [claim.phrase for claim in parse(answer)]


def test_added_tokens_have_upstreams_ids(cases):
    added, ids = cases["tokenizer"]["added"], TokenIds.after(cases["tokenizer"]["base_vocab"])
    assert list(added.values()) == [
        ids.im_start,
        ids.im_end,
        ids.bbox,
        ids.point,
        ids.seg,
        ids.p,
        ids.end_p,
    ]
    others = cases["tokenizer"]
    assert (ids.bos, ids.eos, ids.pad) == (others["bos"], others["eos"], others["pad"])
    assert ids.end_p + 1 == others["size"]


def test_ids_around_special_tokens(cases, tokenizer):
    for case in cases["tokenizer"]["cases"]:
        assert tokenizer.encode(case["text"]) == case["ids"], case["text"]
        assert tokenizer.encode(case["text"], bos=False) == case["ids_nospecial"], case["text"]


def test_the_instruction_is_the_one_the_weights_were_trained_with(cases):
    assert cases["instruction_used"] == INSTRUCTION
    assert cases["inference_prompt"].startswith(SYSTEM)


def test_prompt_and_training_conversations(cases, tokenizer, numbers):
    data = numbers("text_ids")
    dialog = Dialog(LegionConfig(tokens=tokenizer.tokens), tokenizer)
    assert dialog.prompt_text == cases["inference_prompt_with_image_tokens"]
    assert list(dialog.prompt) == data["prompt_ids"].tolist()
    for case in cases["train_conversations"]:
        spelled = f"{dialog.prompt_text} {case['tagged']}</s>".replace("<im_start><image><im_end>", IMAGE)
        assert spelled == case["conversation"]
    conversations = [dialog.with_answer(c["tagged"]) for c in cases["train_conversations"]]
    ids, labels, attention = pad_conversations(conversations, tokenizer.tokens.pad)
    assert torch.equal(ids, data["input_ids"])
    assert torch.equal(labels, data["labels"])
    assert torch.equal(attention, data["attention_mask"])


def test_decoding(cases, tokenizer, numbers):
    expected = cases["decode"]
    raw = tokenizer.decode(numbers("text_ids")["decode_ids"].tolist())
    assert raw == expected["raw"]
    answer = " ".join(raw.split()).rsplit("ASSISTANT: ")[-1]
    assert answer == expected["after_split"]
    assert with_upstreams_losses(caption(answer)) == expected["caption"]
    assert phrases_with_masks(answer) == expected["phrases"]


def test_an_answer_split_by_token_is_the_answer_split_by_letters(tokenizer, numbers):
    ids = [i for i in numbers("text_ids")["decode_ids"].tolist() if i != IMAGE_ID]
    pieces = tokenizer.decode_between(ids, tokenizer.tokens.seg)
    assert claims_between(pieces) == parse(tokenizer.decode(ids))


def test_captions_and_phrases(cases):
    """As upstream, once its defects are done to ours; a phrase without a [SEG] has no mask."""
    for case in cases["regex_cases"]:
        text = case["text"]
        assert with_upstreams_losses(caption(text)) == case["caption"]
        assert phrases_with_masks(text) == case["phrases"][: text.count("[SEG]")]


def test_captions_keep_legitimate_text():
    """Where upstream does not: "< y >" and an apostrophe at either end are text."""
    assert caption("<p>A</p>[SEG]<p> B </p>[SEG] x < y > z</s>") == "A B x < y > z"
    assert caption("'quoted' <p> a </p> 'b'") == "'quoted' a 'b'"

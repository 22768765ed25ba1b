"""Tokens, labels and decoding equal what the original's tokenizer produced."""

import json

import pytest
import torch

from defender.answers import caption
from defender.config import INSTRUCTION, SYSTEM, LegionConfig, TokenIds
from defender.text import Dialog, Tokenizer, pad_conversations


@pytest.fixture(scope="module")
def cases(folder):
    return json.loads((folder / "text_cases.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(folder):
    return Tokenizer.load(folder / "tokenizer" / "tokenizer.model", TokenIds.after(480))


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
    conversations = [dialog.with_answer(c["tagged"]) for c in cases["train_conversations"]]
    ids, labels, attention = pad_conversations(conversations, tokenizer.tokens.pad)
    assert torch.equal(ids, data["input_ids"])
    assert torch.equal(labels, data["labels"])
    assert torch.equal(attention, data["attention_mask"])


def test_decoding(cases, tokenizer, numbers):
    assert tokenizer.decode(numbers("text_ids")["decode_ids"].tolist()) == cases["decode"]["raw"]


def test_captions_keep_legitimate_text(cases):
    """As upstream, except for its defects: "< y >" and a final apostrophe are text, not tags."""
    ours = [caption(case["text"]) for case in cases["regex_cases"]]
    assert ours == [
        cases["regex_cases"][0]["caption"],
        "A B x < y > z",
        "'quoted' a",
        cases["regex_cases"][3]["caption"],
    ]

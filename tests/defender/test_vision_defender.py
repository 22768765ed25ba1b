"""A vision model's answers, good, careless and useless, over a real HTTP server."""

import base64
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scripted_server import chat, html, problem

from contracts.errors import InvalidInput, ModelError, RemoteError
from contracts.records import Box
from defender.vision_defender import VisionDefender, VisionSettings, box_in, read_claims
from servers.budget import Budget, Price
from servers.chat import Chat, ChatSettings
from servers.client import Server, ServerSettings

KEY = "sk-canary-4f9c8e7d6b5a"
HAND = {
    "box": [250, 500, 500, 1000],
    "phrase": "the left hand",
    "explanation": "the hand has six fingers",
    "category": "structure",
    "confidence": 0.9,
}


class WholeBoxes:
    """A SAM that fills the picture right of the box's left side."""

    digest = "scripted"

    def masks(self, image, boxes):
        masks = [np.zeros(image.shape[:2], bool) for _ in boxes]
        for mask, box in zip(masks, boxes, strict=True):
            mask[box.top : box.bottom, box.left :] = True
        return [(mask, 0.5) for mask in masks]


class Blind:
    digest = "blind"

    def masks(self, image, boxes):
        return [(np.zeros(image.shape[:2], bool), 0.0) for _ in boxes]


def defender(server, sam=None, **settings):
    sender = Server(
        ServerSettings(server.url, timeout=5, attempts=2),
        environ={"LEGION_LLM_API_KEY": KEY},
        sleep=lambda _: None,
    )
    return VisionDefender(Chat(sender, ChatSettings("seer")), sam, VisionSettings(**settings))


def says(*findings):
    return chat(json.dumps({"findings": list(findings)}))


def picture(height=20, width=40, level=90):
    return np.full((height, width, 3), level, np.uint8)


def one(server, *findings, sam=None, image=None, **settings):
    server.say(says(*findings))
    return defender(server, sam, **settings).diagnose([picture() if image is None else image])[0]


def test_a_good_answer_becomes_findings_with_masks(scripted_server):
    diagnosis = one(scripted_server, HAND)
    (found,) = diagnosis.findings
    assert found.box == Box(10, 10, 20, 20) and found.mask.sum() == 100
    assert (found.phrase, found.explanation) == ("the left hand", "the hand has six fingers")
    assert (found.category, found.confidence) == ("structure", 0.9)
    assert "six fingers" in diagnosis.answer and diagnosis.synthetic_probability is None


def test_the_picture_goes_along_enlarged_and_whole(scripted_server):
    one(scripted_server, image=picture(20, 40, level=200))
    text, shown = scripted_server.bodies[0]["messages"][1]["content"]
    assert text["type"] == "text"
    encoded = shown["image_url"]["url"].removeprefix("data:image/png;base64,")
    sent = Image.open(io.BytesIO(base64.b64decode(encoded)))
    assert sent.size == (1024, 512) and np.asarray(sent).min() == np.asarray(sent).max() == 200
    one(scripted_server, image=picture(100, 3000))
    encoded = scripted_server.bodies[1]["messages"][1]["content"][1]["image_url"]["url"].split(",")[1]
    assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (1536, 51)


def test_sam_outlines_within_the_boxes_surroundings_and_the_box_stands_in_for_it(scripted_server):
    (found,) = one(scripted_server, HAND, sam=WholeBoxes()).findings
    assert found.box == Box(10, 10, 22, 20)
    (found,) = one(scripted_server, HAND, sam=Blind()).findings
    assert found.box == Box(10, 10, 20, 20)


def test_nothing_wrong_is_no_finding(scripted_server):
    assert one(scripted_server).findings == ()


@pytest.mark.parametrize(
    ("change", "box"),
    [
        ({"box": [-200, 900, 300, 1800]}, Box(0, 18, 12, 20)),
        ({"box": [500, 1000, 250, 500]}, Box(10, 10, 20, 20)),
        ({"box": [0.25, 0.5, 0.5, 1.0]}, Box(10, 10, 20, 20)),
        ({"box": [500, 500, 500, 500]}, Box(20, 10, 21, 11)),
        ({"box": ["250", "500", "500", "1000"]}, Box(10, 10, 20, 20)),
    ],
)
def test_careless_boxes_are_brought_into_the_picture(scripted_server, change, box):
    (found,) = one(scripted_server, {**HAND, **change}).findings
    assert found.box == box


def test_what_cannot_be_used_is_left_out_and_the_rest_kept(scripted_server):
    bad = [
        {**HAND, "box": [1, 2, 3]},
        {**HAND, "box": None},
        {**HAND, "phrase": ""},
        "a hand",
        {**HAND, "box": [2000, 2000, 3000, 3000]},
        {**HAND, "confidence": 0.1},
    ]
    assert [f.phrase for f in one(scripted_server, *bad, HAND).findings] == ["the left hand"]
    assert len(scripted_server.bodies) == 1


def test_unknown_categories_and_confidences_are_settled(scripted_server):
    odd = {**HAND, "category": "Physics ", "confidence": 7}
    other = {**HAND, "category": "weird", "explanation": "the shadow falls the wrong way"}
    first, second = one(scripted_server, odd, other).findings
    assert (first.category, first.confidence) == ("physics", 1.0)
    assert second.category == "physics"


def test_a_useless_answer_is_told_and_asked_for_again(scripted_server):
    scripted_server.say(chat("I see a hand."), says({**HAND, "box": "left"}), says(HAND))
    assert len(defender(scripted_server).diagnose([picture()])[0].findings) == 1
    told = [body["messages"][-1]["content"] for body in scripted_server.bodies[1:]]
    assert "not in the form" in told[0] and "'box' of a finding" in told[1]
    assert scripted_server.bodies[2]["messages"][2]["content"].startswith("{")


@pytest.mark.parametrize(
    "reply",
    [
        chat("There are no flaws."),
        chat(""),
        chat(None, refusal="I cannot look at people"),
        chat('{"findings": [{"box": [1'),
        chat('{"findings": "none"}'),
        says({**HAND, "box": "left"}),
    ],
)
def test_no_usable_answer_is_an_error_and_never_a_clean_picture(scripted_server, reply):
    scripted_server.say(reply)
    with pytest.raises(ModelError, match="seer gave no usable diagnosis in 2 tries") as error:
        defender(scripted_server, tries=2).diagnose([picture()])
    assert not isinstance(error.value, RemoteError)


def test_a_failing_server_is_worth_a_retry_and_shows_no_key(scripted_server):
    for fault in (html(), problem(503, f"busy {KEY}")):
        scripted_server.say(fault)
        with pytest.raises(RemoteError) as error:
            defender(scripted_server).diagnose([picture()])
        assert KEY not in str(error.value)
    described = defender(scripted_server, WholeBoxes()).describe()
    assert KEY not in json.dumps(described) and described["sam"] == "scripted"


def test_pictures_of_a_batch_keep_their_order(scripted_server):
    def answer(handler):
        encoded = scripted_server.bodies[-1]["messages"][1]["content"][1]["image_url"]["url"].split(",")[1]
        level = int(np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))[0, 0, 0])
        says({**HAND, "phrase": f"level {level}"})(handler)

    scripted_server.say(answer)
    levels = [10, 200, 30]
    made = defender(scripted_server, concurrency=1).diagnose([picture(level=n) for n in levels])
    assert [d.findings[0].phrase for d in made] == [f"level {n}" for n in levels]


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(scripted_server, image):
    with pytest.raises(InvalidInput, match="picture 1"):
        defender(scripted_server).diagnose([image])


@pytest.mark.parametrize(
    "wrong",
    [{"tries": 0}, {"min_confidence": 2}, {"shortest_side": 9, "longest_side": 8}, {"concurrency": 0}],
)
def test_settings_out_of_range(wrong):
    with pytest.raises(InvalidInput):
        VisionSettings(**wrong)


sides = st.floats(-3000, 3000, allow_nan=False)


@given(st.tuples(sides, sides, sides, sides), st.tuples(st.integers(1, 50), st.integers(1, 50)))
def test_any_box_lies_in_the_picture_or_is_none(box, shape):
    placed = box_in(box, shape)
    if placed is not None:
        assert 0 <= placed.left < placed.right <= shape[1]
        assert 0 <= placed.top < placed.bottom <= shape[0]


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(HAND)), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(values)
def test_any_json_is_survived(value):
    claims, _ = read_claims({"findings": value})
    assert all(math.isfinite(side) for claim in claims for side in claim.box)
    assert all(0 <= claim.confidence <= 1 for claim in claims)


def test_a_budget_ends_the_looking_and_never_passes_a_picture_as_clean(scripted_server):
    scripted_server.say(says(HAND))
    looking = defender(scripted_server, budget=Budget(calls=3), concurrency=1)
    assert len(looking.diagnose([picture(level=level) for level in (1, 2, 3)])) == 3
    assert looking.spent.calls == 3 and looking.spent.tokens > 0
    with pytest.raises(ModelError, match="budget of 3 calls is spent: raise .defender.budget.") as caught:
        looking.diagnose([picture(level=4)])
    assert "\n" not in str(caught.value) and len(scripted_server.bodies) == 3


def test_pictures_at_the_same_time_share_one_budget(scripted_server):
    scripted_server.say(says(HAND))
    looking = defender(scripted_server, budget=Budget(calls=5), concurrency=8)
    with pytest.raises(ModelError, match="budget of 5 calls"):
        looking.diagnose([picture(level=level) for level in range(8)])
    assert looking.spent.calls == len(scripted_server.bodies) == 5


def test_each_picture_says_what_it_took(scripted_server):
    scripted_server.say(chat("Looks fine to me!"), says(HAND))
    looking = defender(scripted_server, concurrency=1, price=Price(1.0, 2.0))
    first, second = looking.diagnose([picture(level=1), picture(level=2)])
    assert (first.usage.calls, second.usage.calls) == (2, 1), "the first was asked again"
    both, spent = first.usage + second.usage, looking.spent
    assert replace(both, usd=0.0) == replace(spent, usd=0.0) and both.tokens > 0
    assert both.usd == pytest.approx(spent.usd) and second.usage.usd > 0


def test_money_is_counted_by_the_price_and_not_guessed(scripted_server):
    scripted_server.say(says(HAND))
    looking = defender(scripted_server, price=Price(1_000.0, 0.0), budget=Budget(usd=100.0))
    looking.diagnose([picture()])
    assert looking.spent.usd == pytest.approx(looking.spent.input_tokens * 0.001)
    with pytest.raises(InvalidInput, match="needs the price of 'seer'"):
        defender(scripted_server, budget=Budget(usd=1.0))

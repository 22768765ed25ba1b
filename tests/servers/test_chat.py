"""Structured output, JSON mode, tags: whatever a server has, one checked object comes out."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import chat, problem

from contracts.errors import InvalidInput, ModelError
from contracts.records import Usage
from servers.budget import Budget, BudgetSpent, Meter, Price, estimated_tokens, price_of
from servers.chat import Chat, ChatSettings
from servers.client import Server, ServerSettings
from servers.structured import find_object, looks_cut_off

SCHEMA = {
    "type": "object",
    "properties": {"prompt": {"type": "string"}, "reason": {"type": "string"}},
    "required": ["prompt", "reason"],
    "additionalProperties": False,
}
GOOD = {"prompt": "a cone", "reason": "why"}
ASKED = [{"role": "system", "content": "Do it."}, {"role": "user", "content": "a cone"}]
NO_LIMIT = Budget()


def chat_with(server, **settings):
    sender = Server(ServerSettings(server.url, timeout=5), environ={}, sleep=lambda _: None)
    return Chat(sender, ChatSettings("tiny", **settings))


def ask(model, meter=None):
    return model.ask(ASKED, SCHEMA, "revision", meter or Meter(NO_LIMIT, Usage(), None), seed=3)


def test_the_schema_goes_along_and_the_object_comes_back(scripted_server):
    scripted_server.say(chat(json.dumps(GOOD)))
    meter = Meter(NO_LIMIT, Usage(), Price(2.0, 10.0))
    answer = ask(chat_with(scripted_server), meter)
    assert answer.data == GOOD and not answer.problem
    body = scripted_server.bodies[0]
    wrapped = body["response_format"]["json_schema"]
    assert (wrapped["schema"], wrapped["strict"], wrapped["name"]) == (SCHEMA, True, "revision")
    assert (body["model"], body["seed"], body["messages"][1]) == ("tiny", 3, ASKED[1])
    assert '"prompt", "reason"' in body["messages"][0]["content"]
    assert meter.used == Usage(1, 50, 20, (50 * 2 + 20 * 10) / 1e6)


def test_a_server_without_structured_output_gets_json_mode_then_tags_and_is_not_asked_twice(scripted_server):
    refusal = problem(400, "response_format is not supported")
    tagged = chat("Sure!\n<prompt>a cone</prompt>\n<reason>why</reason>")
    scripted_server.say(refusal, refusal, tagged)
    model = chat_with(scripted_server)
    assert ask(model).data == GOOD
    kinds = [(body.get("response_format") or {}).get("type") for body in scripted_server.bodies]
    assert kinds == ["json_schema", "json_object", None]
    assert "<prompt>...</prompt>" in scripted_server.bodies[2]["messages"][0]["content"]
    assert ask(model).data == GOOD
    assert len(scripted_server.bodies) == 4


@pytest.mark.parametrize("option", ["temperature", "seed", "max_completion_tokens"])
def test_an_option_that_a_model_refuses_is_dropped_alone(scripted_server, option):
    scripted_server.say(problem(400, f"Unsupported parameter: '{option}'"), chat(json.dumps(GOOD)))
    model = chat_with(scripted_server)
    assert ask(model).data == GOOD
    assert option not in scripted_server.bodies[1] and "response_format" in scripted_server.bodies[1]
    assert "max_tokens" in scripted_server.bodies[1] or option != "max_completion_tokens"


def test_an_unknown_model_is_told_and_a_format_that_was_asked_for_is_kept(scripted_server):
    scripted_server.say(problem(404, "no such model"))
    with pytest.raises(ModelError, match="no such model"):
        ask(chat_with(scripted_server))
    scripted_server.say(problem(400, "no"))
    with pytest.raises(ModelError):
        ask(chat_with(scripted_server, format="json"))
    assert len(scripted_server.bodies) == 2


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (chat(""), "empty"),
        (chat(None), "empty"),
        (chat(None, refusal="I cannot help with that"), "refused"),
        (chat("x", finish="content_filter"), "refused"),
        (chat('{"prompt": "a co', finish="length"), "cut off"),
        (chat('{"prompt": "a co'), "cut off"),
        (chat("I am happy to help."), "not in the form"),
        (chat('{"prompt": "only this"}'), "not in the form"),
        (chat('{"a": ' * 5000 + "1" + "}" * 5000), "not in the form"),
        (chat("[" * 50_000), "not in the form"),
    ],
)
def test_useless_answers_come_back_with_their_problem(scripted_server, reply, told):
    scripted_server.say(reply)
    answer = ask(chat_with(scripted_server))
    assert answer.data is None and told in answer.problem


def test_what_a_server_plays_back_holds_no_key(scripted_server):
    key = "sk-canary-4f9c8e7d6b5a"
    scripted_server.say(chat(json.dumps({"prompt": f"a cone {key}", "reason": key[:14]})))
    sender = Server(ServerSettings(scripted_server.url), environ={"LEGION_LLM_API_KEY": key})
    model = Chat(sender, ChatSettings("tiny"))
    answer = ask(model)
    assert answer.data == {"prompt": "a cone ***", "reason": "***"}
    assert key[:8] not in answer.text + repr(model.describe())


def test_usage_that_a_server_does_not_report_is_estimated(scripted_server):
    text = json.dumps(GOOD)
    for usage in (None, {"prompt_tokens": "many"}, {"prompt_tokens": -5, "completion_tokens": True}):
        scripted_server.say(chat(text, usage=usage))
        meter = Meter(NO_LIMIT, Usage(), None)
        ask(chat_with(scripted_server), meter)
        assert meter.used.input_tokens >= 10 and meter.used.output_tokens == estimated_tokens([text])


@pytest.mark.parametrize(
    ("budget", "spent", "told"),
    [
        (Budget(calls=2), Usage(calls=2), "2 calls"),
        (Budget(calls=0), Usage(), "0 calls"),
        (Budget(tokens=1_000), Usage(1, 700, 200), "1,000 tokens"),
        (Budget(usd=0.01), Usage(1, usd=0.0099), r"\$0.01"),
    ],
)
def test_a_call_that_could_break_the_budget_is_not_made(scripted_server, budget, spent, told):
    with pytest.raises(BudgetSpent, match=told):
        ask(chat_with(scripted_server), Meter(budget, spent, Price(1, 2)))
    assert scripted_server.bodies == []


def test_retries_count_as_calls(scripted_server):
    scripted_server.say(problem(500, "x"))
    meter = Meter(Budget(calls=2), Usage(), None)
    with pytest.raises(BudgetSpent):
        ask(chat_with(scripted_server), meter)
    assert meter.used.calls == 2 == len(scripted_server.bodies)


def test_prices_come_from_the_profile_or_the_table_and_dated_models_count_as_theirs():
    money = Budget(usd=1)
    assert price_of("gpt-4o-mini", None, money) == Price(0.15, 0.60)
    assert price_of("gpt-4o-mini-2024-07-18", None, money) == Price(0.15, 0.60)
    assert price_of("gpt-4o-mini", Price(1, 1), money) == Price(1, 1)
    assert price_of("own-model", None, NO_LIMIT) is None
    for unknown in ("gpt-4o-audio-preview", "own-model", "gpt-5-pro"):
        with pytest.raises(InvalidInput, match="usd_per_million_input"):
            price_of(unknown, None, money)


def test_a_limit_on_money_says_that_the_tables_price_is_an_example(caplog):
    price_of("gpt-4o-mini", None, NO_LIMIT)
    price_of("gpt-4o-mini", Price(1, 1), Budget(usd=1))
    assert not caplog.records
    price_of("gpt-4o-mini", None, Budget(usd=1))
    assert "an example price of gpt-4o-mini" in caplog.text


@pytest.mark.parametrize("wrong", [{"calls": -1}, {"tokens": -1}, {"usd": float("nan")}])
def test_budgets_out_of_range(wrong):
    with pytest.raises(InvalidInput):
        Budget(**wrong)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"max_output_tokens": 0}])
def test_chat_settings_out_of_range(wrong):
    with pytest.raises(InvalidInput):
        ChatSettings("tiny", **wrong)
    with pytest.raises(InvalidInput, match="no name"):
        ChatSettings(" ")


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": "a", "reason": "b"}',
        '```json\n{"prompt": "a", "reason": "b"}\n```',
        'Of course {smile}: {"x": 1} {"prompt": "a", "reason": "b"} Enjoy!',
        '<think>maybe {"prompt": "z", "reason": "z"}</think>{"prompt": "a", "reason": "b"}',
        "<prompt>a</prompt> and <reason>\nb\n</reason>",
    ],
)
def test_the_object_is_found_in_whatever_surrounds_it(text):
    assert find_object(text, ["prompt", "reason"]) == {"prompt": "a", "reason": "b"}


def test_what_is_no_json_is_not_taken_for_it():
    assert find_object('{"prompt": NaN, "reason": ""}', ["prompt"]) is None
    assert find_object('{"prompt": "a"}' + " " * 20_000, ["prompt"]) is None
    assert looks_cut_off('{"prompt": "a') and looks_cut_off("<prompt>a") and not looks_cut_off('{"a": 1}')


@given(st.text(max_size=200))
def test_any_text_is_survived(text):
    find_object(text, ["prompt"])
    looks_cut_off(text)


@given(
    st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3), st.text("ab {}`\n", max_size=20)
)
def test_an_object_survives_any_words_after_it(data, words):
    assert find_object(json.dumps(data) + words, list(data)) == data or not data

"""A language model behind the modifier's protocol, over a real HTTP server: good answers, bad ones, none."""

import json
import logging

import numpy as np
import pytest
from scripted_server import chat, cut, hang, html, problem, send

from contracts.errors import InvalidInput, ModelError
from contracts.records import Finding, Lesson, RevisionRequest, Symptom, Try, Usage
from controller.llm_modifier import LanguageModelModifier, RevisionSettings
from controller.modifiers import NO_ROOM, NOTHING_FOUND, RuleBasedModifier, WordLimit
from prompts import load_lexicon
from servers.budget import Budget, Price
from servers.chat import Chat, ChatSettings
from servers.client import Server, ServerSettings
from servers.outage import Outage

KEY = "sk-canary-4f9c8e7d6b5a"
CONE = "a red cone on a wooden table"
SHADOW = Finding(np.ones((2, 2), bool), "the shadow", "the shadow falls toward the light", "physics", 0.9)
TIP = Finding(np.ones((2, 2), bool), "the tip", "the tip is bent", "structure", 0.5)
RULES = RuleBasedModifier(load_lexicon("tabletop"))
BY_RULE = f"{CONE}, natural shadow"


def modifier(
    server, rules=RULES, environ=None, unknown=lambda _: (), attempts=2, timeout=60.0, outage=None, **settings
):
    sender = Server(
        ServerSettings(server.url, timeout=timeout, attempts=attempts),
        environ={"LEGION_LLM_API_KEY": KEY} if environ is None else environ,
        sleep=lambda _: None,
    )
    return LanguageModelModifier(
        Chat(sender, ChatSettings("tiny")), rules, RevisionSettings(**settings), unknown, outage
    )


def request(*findings, user=CONE, **more):
    return RevisionRequest(user, more.pop("current", user), findings or (SHADOW,), **more)


def says(prompt, addressed=(1,), reason="the light is on the left"):
    return chat(json.dumps({"prompt": prompt, "addressed": list(addressed), "reason": reason}))


def revise(server, *requests, **options):
    return modifier(server, **options).revise(requests or (request(),))


def test_a_good_answer_becomes_the_revision_with_what_it_took(scripted_server):
    scripted_server.say(says(f"{CONE}, shadow falling to the right", (2, 1)))
    made = revise(scripted_server, request(TIP, SHADOW), price=Price(1, 10))[0]
    assert made.prompt == f"{CONE}, shadow falling to the right"
    assert made.addressed == ("the tip", "the shadow")
    assert made.reason == "the light is on the left (tiny)"
    assert made.usage == Usage(1, 50, 20, 0.00025)


def test_the_model_is_told_everything_it_may_know(scripted_server):
    scripted_server.say(says(f"{CONE}, lit from the left"))
    asked = request(
        TIP,
        SHADOW,
        current=f"{CONE}, clean surface",
        tries=(Try(CONE, True, ("the rim",)), Try(f"{CONE}, bright", False)),
        lessons=(
            Lesson(Symptom("physics", "shadow"), "shadow", "one lamp", 20, 19, 30, 12),
            Lesson(Symptom("distortion"), "", "fine grain", 50, 49, 90, 60),
            Lesson(Symptom("physics", "shadow"), "shadow", "two lamps", 1, 1, 30, 12),
        ),
    )
    revise(scripted_server, asked, examples=False)
    sent = scripted_server.bodies[0]["messages"]
    assert [message["role"] for message in sent] == ["system", "user"]
    assert sent[1]["content"].splitlines() == [
        f"Prompt: {CONE}",
        "Flaws:",
        "1. the shadow: the shadow falls toward the light (wording that fits: natural shadow)",
        "2. the tip: the tip is bent (wording that fits: perfect shape)",
        f"The picture was painted from: {CONE}, clean surface",
        f"Tried before: {CONE} (better; found: the rim)",
        f"Tried before: {CONE}, bright (not better)",
        'Helped before: "one lamp" against physics of the shadow (gone in 19 of 20, without it in 12 of 30)',
        'Helped before: "fine grain" against distortion (gone in 49 of 50, without it in 60 of 90)',
    ]
    assert scripted_server.bodies[0]["response_format"]["json_schema"]["schema"]["properties"][
        "addressed"
    ] == {
        "type": "array",
        "items": {"type": "integer", "enum": [1, 2]},
    }


def test_examples_speak_the_vocabulary_in_use(scripted_server):
    scripted_server.say(says(f"{CONE}, lit from the left"))
    revise(scripted_server)
    sent = scripted_server.bodies[0]["messages"]
    assert [m["role"] for m in sent] == ["system", *["user", "assistant"] * 3, "user"]
    assert "natural shadow" in json.loads(sent[2]["content"])["prompt"]


def test_a_broken_rule_is_told_and_the_next_answer_taken(scripted_server):
    scripted_server.say(says("a blue ball"), says(f"{CONE}, lit from the left"))
    made = revise(scripted_server)[0]
    assert made.prompt == f"{CONE}, lit from the left" and made.reason.endswith("(tiny, try 2)")
    told = scripted_server.bodies[1]["messages"][-2:]
    assert "a blue ball" in told[0]["content"]
    assert 'the subject must stay: "red cone" is gone' in told[1]["content"]
    assert scripted_server.bodies[0]["seed"] != scripted_server.bodies[1]["seed"]
    assert made.usage == Usage(2, 100, 40, 0.0)


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (says("a cat"), 'the subject must stay: "red cone" is gone'),
        (says(f"{CONE}, not bent"), '"not" names a flaw'),
        (says(CONE), "tried before"),
        (says(f"{CONE}, lit from the left", (7,)), "numbers of flaws"),
        (says(f"{CONE}, lit from the left", ()), "numbers of flaws"),
        (chat(json.dumps({"prompt": 5, "addressed": [1], "reason": ""})), "'prompt' is not as asked for"),
        (chat(json.dumps({"prompt": " ", "addressed": [1], "reason": ""})), "'prompt' is not as asked for"),
        (chat(json.dumps({"prompt": "x" * 3_000, "addressed": [1], "reason": ""})), "'prompt' is not"),
        (chat(json.dumps({"prompt": CONE, "addressed": ["x"], "reason": ""})), "'addressed"),
        (chat(json.dumps({"prompt": CONE, "addressed": None, "reason": None})), "'addressed'"),
        (chat(None, refusal="I will not"), "refused"),
        (chat(""), "empty"),
        (chat('{"prompt": "a red co', finish="length"), "cut off"),
        (chat("Sure, here you are!"), "not in the form"),
    ],
)
def test_after_the_last_try_the_rules_answer_and_say_why(scripted_server, reply, why):
    scripted_server.say(reply)
    made = revise(scripted_server, tries=2)[0]
    assert made.prompt == BY_RULE and made.addressed == ("the shadow",)
    assert made.reason.startswith('added "natural shadow" (physics); by rule, because tiny gave no usable')
    assert "in 2 tries" in made.reason and why in made.reason
    assert made.usage.calls == 2 == len(scripted_server.bodies)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (problem(429, "slow down"), "status 429: slow down"),
        (problem(503, "busy"), "status 503"),
        (html(), "a web page"),
        (hang(2.0), "did not answer within 0.5 s"),
        (cut(), "broke off"),
        (send(200, '{"error": {"message": "out of memory"}}'), "out of memory"),
        (problem(401, f"wrong key {KEY}"), "refused the key"),
        (problem(404, "no such model"), "no such model"),
    ],
)
def test_a_failing_server_costs_no_round_and_the_rest_of_the_batch_does_not_wait(
    scripted_server, fault, why, caplog
):
    scripted_server.say(fault)
    batch = [request(user=f"{CONE} {n}") for n in range(5)]
    with caplog.at_level(logging.DEBUG):
        made = revise(scripted_server, *batch, concurrency=1, timeout=0.5 if why.endswith("0.5 s") else 60.0)
    assert [m.prompt for m in made] == [f"{CONE} {n}, natural shadow" for n in range(5)]
    assert all("by rule, because" in m.reason and why in m.reason for m in made)
    assert len(scripted_server.bodies) <= 2 and made[1].usage == Usage()
    assert "the rules wrote it" in caplog.text
    assert KEY not in caplog.text + repr(made)


def test_later_rounds_do_not_wait_for_a_server_that_failed_until_it_had_its_rest(scripted_server, caplog):
    now = [0.0]
    revising = modifier(scripted_server, attempts=2, timeout=0.3, outage=Outage(lambda: now[0]))
    scripted_server.say(hang(2.0))
    rounds = [revising.revise([request()])[0] for _ in range(3)]
    assert len(scripted_server.bodies) == 2 and all(made.prompt == BY_RULE for made in rounds)
    assert all("did not answer within 0.3 s" in made.reason for made in rounds)
    assert rounds[0].usage.calls == 2 and rounds[2].usage == Usage()
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "asked again, and the rules write the prompt if it does not answer" in told[0]
    assert "the rules wrote it, and go on so for 60 s" in told[1]
    now[0] = 61.0
    scripted_server.say(says(f"{CONE}, lit from the left"))
    assert revising.revise([request()])[0].prompt == f"{CONE}, lit from the left"
    assert revising.revise([request()])[0].prompt == f"{CONE}, lit from the left"


def test_a_batch_that_fails_at_once_is_told_once(scripted_server, caplog):
    scripted_server.say(problem(401, "no"))
    revise(scripted_server, *(request(user=f"{CONE} {n}") for n in range(8)), concurrency=8)
    assert caplog.text.count("the rules wrote it") == 1


def test_an_error_never_becomes_a_prompt(scripted_server):
    for text in ("Error: rate limit exceeded", '{"error": "x"}', "I'm sorry, I cannot do that."):
        scripted_server.say(says(text), chat(text))
        assert revise(scripted_server, tries=2)[0].prompt == BY_RULE


def test_budgets_are_of_the_run_and_stop_the_model_only(scripted_server):
    scripted_server.say(says(f"{CONE}, lit from the left"))
    for budget, spent, why in (
        (Budget(calls=3), Usage(calls=3), "budget of 3 calls is spent"),
        (Budget(tokens=5_000), Usage(1, 4_900, 50), "budget of 5,000 tokens is spent"),
        (Budget(usd=0.01), Usage(1, usd=0.01), "budget of $0.01 is spent"),
    ):
        fresh, poor = request(), request(spent=spent)
        made = revise(scripted_server, fresh, poor, budget=budget, price=Price(1, 1), concurrency=1)
        assert made[0].prompt == f"{CONE}, lit from the left"
        assert made[1].prompt == BY_RULE and why in made[1].reason and made[1].usage == Usage()


def test_a_budget_that_ends_between_two_tries_keeps_what_was_taken(scripted_server):
    scripted_server.say(says("a cat"))
    made = revise(scripted_server, budget=Budget(calls=1))[0]
    assert made.usage == Usage(1, 50, 20) and "budget of 1 call is spent" in made.reason


def test_without_findings_or_room_the_model_is_not_asked(scripted_server):
    nothing = RevisionRequest(CONE, CONE, ())
    short = RuleBasedModifier(RULES.lexicon, WordLimit(3))
    assert revise(scripted_server, nothing)[0].reason == NOTHING_FOUND
    assert revise(scripted_server, rules=short)[0].reason == NO_ROOM
    assert scripted_server.bodies == []


def test_the_limit_and_the_vocabulary_of_the_painter_hold(scripted_server):
    scripted_server.say(says(f"{CONE}, lit from the left"))
    short = RuleBasedModifier(RULES.lexicon, WordLimit(9))
    assert "longer than the painter can read" in revise(scripted_server, rules=short)[0].reason
    made = revise(scripted_server, unknown=lambda text: ["lit"] if "lit" in text else [])[0]
    assert 'the painter does not know "lit"' in made.reason


def test_each_of_a_batch_is_answered_by_itself_in_order(scripted_server):
    def answer(handler):
        asked = scripted_server.bodies[-1]["messages"][-1]["content"].splitlines()[0].removeprefix("Prompt: ")
        says(f"{asked}, lit from the left")(handler)

    scripted_server.say(answer)
    batch = [request(user=f"{n} red cones") for n in range(2, 8)]
    together = revise(scripted_server, *batch, concurrency=1)
    assert [r.prompt for r in together] == [f"{n} red cones, lit from the left" for n in range(2, 8)]
    assert together == [revise(scripted_server, one)[0] for one in batch]
    assert revise(scripted_server, concurrency=3) and modifier(scripted_server).revise([]) == []


def test_quotation_marks_and_careless_types_are_forgiven(scripted_server):
    given = {"prompt": f'"{CONE}, lit from the left"', "addressed": "[1, 1]", "reason": "", "mood": "good"}
    scripted_server.say(chat(json.dumps(given)))
    made = revise(scripted_server)[0]
    assert (made.prompt, made.addressed, made.reason) == (
        f"{CONE}, lit from the left",
        ("the shadow",),
        "tiny",
    )


def test_a_description_is_data_without_the_key_and_names_what_matters(scripted_server):
    described = modifier(scripted_server).describe()
    assert described["model"] == "tiny" and described["fallback"]["name"] == "rules"
    assert KEY not in json.dumps(described)
    assert modifier(scripted_server, examples=False).describe()["examples"] is None


def test_impossible_settings_and_findings(scripted_server):
    for wrong in ({"tries": 0}, {"concurrency": 0}):
        with pytest.raises(InvalidInput):
            RevisionSettings(**wrong)
    with pytest.raises(InvalidInput, match="usd_per_million_input"):
        modifier(scripted_server, budget=Budget(usd=1))
    broken = Finding(SHADOW.mask, "x", "y", "physics", float("nan"))
    with pytest.raises(ModelError, match="nan"):
        revise(scripted_server, request(broken))

"""The whole command with a language model: a real small one in this process, and servers that misbehave."""

import json
import logging
import time

import numpy as np
import pytest
from scripted_server import chat, echo_key, hang, html, send

from contracts.records import Finding, RevisionRequest
from controller.llm_modifier import LanguageModelModifier, RevisionSettings
from controller.modifiers import RuleBasedModifier
from controller.revision_rules import broken_rules
from flows.cli import main
from flows.language_models import local_chat
from flows.profiles.language import ModifierProfile
from flows.profiles.loading import BUNDLED
from flows.settings import CHECKOUT
from prompts import load_lexicon
from prompts.words import load_words
from servers.budget import Meter
from servers.chat import Chat, ChatSettings
from servers.client import Server, ServerSettings

KEY = "sk-canary-4f9c8e7d6b5a"
FLAWED_SEED = "5"
"""With it the bundled generator's first red cone has a flaw."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def smollm() -> Chat:
    """SmolLM2-135M behind llama.cpp's own HTTP server."""
    return local_chat(ModifierProfile(kind="local", lexicon="general", timeout=300))


def finding(category, phrase, explanation):
    return Finding(np.ones((2, 2), bool), phrase, explanation, category, 0.9)


CAT = RevisionRequest(
    "a cat on a sofa", "a cat on a sofa", (finding("structure", "the cat", "the cat has five legs"),)
)
CONES = [
    RevisionRequest(f"a {c} cone on a wooden table", f"a {c} cone on a wooden table", (found,))
    for c, found in (
        ("red", finding("physics", "the shadow", "the shadow falls toward the light")),
        ("blue", finding("structure", "the tip", "the tip is bent")),
        ("green", finding("distortion", "the surface", "the surface is smeared")),
    )
]


@pytest.mark.timeout(900)
def test_a_real_model_revises_and_whatever_it_writes_obeys_the_rules(smollm):
    rules = RuleBasedModifier(load_lexicon("tabletop"))
    modifier = LanguageModelModifier(smollm, rules, RevisionSettings(tries=2, concurrency=1))
    made = modifier.revise([*CONES, CAT])
    for revision, request in zip(made, [*CONES, CAT], strict=True):
        assert broken_rules(revision.prompt, request, load_words(), rules.fits, lambda _: ()) == []
        assert revision.prompt.startswith(request.user_prompt)
        assert revision.usage.calls >= 1 and revision.usage.input_tokens > 100
    by_model = [revision for revision in made if "by rule" not in revision.reason]
    assert len(by_model) >= 2, [revision.reason for revision in made]


@pytest.mark.timeout(900)
def test_asked_naively_the_real_model_names_the_flaw_and_the_rules_catch_it(smollm):
    server = Server(ServerSettings(smollm.server.base_url, timeout=300), environ={})
    naive = server.chat(
        {
            "model": "any",
            "messages": [
                {
                    "role": "user",
                    "content": "Rewrite the image prompt 'a cat on a sofa'. The picture has this flaw: "
                    "the cat has five legs. Answer with the new prompt only.",
                }
            ],
            "temperature": 0,
            "max_tokens": 60,
        }
    )["choices"][0]["message"]["content"]
    assert broken_rules(naive.strip(), CAT, load_words(), lambda _: True, lambda _: ()), naive


@pytest.mark.timeout(900)
@pytest.mark.parametrize("format_", ["schema", "json", "tags"])
def test_every_form_of_answer_can_be_asked_of_the_real_server(smollm, format_):
    model = Chat(smollm.server, ChatSettings("any", 0.0, 60, format_))
    schema = {
        "type": "object",
        "properties": {"color": {"type": "string", "enum": ["red", "blue"]}},
        "required": ["color"],
        "additionalProperties": False,
    }
    from contracts.records import Usage
    from servers.budget import Budget

    meter = Meter(Budget(), Usage(), None)
    asked = [
        {"role": "system", "content": "You name the color of things."},
        {"role": "user", "content": "What color is blood?"},
    ]
    answer = model.ask(asked, schema, "color", meter)
    assert meter.used.calls == 1 and meter.used.output_tokens > 0
    if format_ == "schema":
        assert answer.data is not None and answer.data["color"] in ("red", "blue")


@pytest.mark.timeout(900)
def test_the_command_runs_offline_with_the_real_model(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["regenerate", "a red cone on a wooden table", "--seed", FLAWED_SEED, "--rounds", "2"]
    assert main([*words, "--no-prefect", "--json", "--modifier", "local", "--out", str(out)]) == 0
    rounds = json.loads(capsys.readouterr().out)["runs"][0]["rounds"]
    assert rounds[0]["findings"] and len(rounds) == 2
    assert rounds[1]["prompt"].startswith("a red cone on a wooden table, ")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (hang(600.0), "did not answer within 0.5 s"),
        (html(), "sent an answer that is a web page, not JSON"),
        (send(200, '{"error": {"message": "no model is loaded"}}'), "no model is loaded"),
    ],
    ids=["hangs", "web page", "error with status 200"],
)
def test_a_server_of_no_use_costs_the_command_two_attempts_and_the_rules_write_on(
    scripted_server, fault, why, tmp_path, capsys, caplog
):
    text = (
        (BUNDLED / "tabletop.toml")
        .read_text(encoding="utf-8")
        .replace('"tabletop/', f'"{CHECKOUT}/tabletop/')
    )
    patient = 'kind = "openai"\ntimeout = 0.5\nattempts = 2'
    (tmp_path / "own.toml").write_text(text.replace('kind = "rules"', patient, 1))
    scripted_server.say(fault)
    words = ["regenerate", "a red cone on a wooden table", "--seed", FLAWED_SEED, "--rounds", "3", "--json"]
    words += ["--profile", str(tmp_path / "own.toml"), "--no-prefect", "--out", str(tmp_path / "out")]
    begun = time.monotonic()
    assert main([*words, "--llm-base-url", scripted_server.url, "--llm-model", "tiny"]) == 0
    assert time.monotonic() - begun < 300  # of the 600 s that it hangs
    captured = capsys.readouterr()
    rounds = json.loads(captured.out)["runs"][0]["rounds"]
    reasons = [item["revision"]["reason"] for item in rounds if item["revision"]]
    assert reasons and all("by rule, because the server" in said and why in said for said in reasons)
    assert len(scripted_server.bodies) == 2
    assert caplog.text.count("the rules write the prompt if it does not answer for") == 1
    assert "Traceback" not in captured.err


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", ["error", "answer"])
def test_the_key_is_in_no_output_whatever_the_server_does(
    scripted_server, fault, tmp_path, monkeypatch, capfd, caplog
):
    """A server that plays the key back, in an error or as an answer, cannot get it into anything we write."""
    monkeypatch.setenv("LEGION_LLM_API_KEY", KEY)
    answer = chat(
        json.dumps(
            {"prompt": f"a red cone on a wooden table, {KEY}", "addressed": [1], "reason": f"because {KEY}"}
        )
    )
    good = {"prompt": "a red cone on a wooden table, perfect shape", "addressed": [1], "reason": f"key {KEY}"}
    scripted_server.say(*([echo_key()] if fault == "error" else [answer, chat(json.dumps(good))]))
    words = ["regenerate", "a red cone on a wooden table", "--seed", FLAWED_SEED, "--rounds", "2"]
    words += ["--no-prefect", "--debug", "--verbose", "--out", str(tmp_path / "out")]
    with caplog.at_level(logging.DEBUG):
        code = main(
            [*words, "--llm-base-url", scripted_server.url, "--llm-model", "tiny", "--run-id", "canary"]
        )
    assert code == 0 and scripted_server.bodies
    assert scripted_server.headers[0]["authorization"] == f"Bearer {KEY}"
    printed = capfd.readouterr()
    texts = [printed.out, printed.err, caplog.text]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "report.html" for path in files) and any("sqlite" in path.name for path in files)
    written = "".join(texts).encode() + b"".join(path.read_bytes() for path in files)
    for start in range(len(KEY) - 9):
        assert KEY[start : start + 10].encode() not in written

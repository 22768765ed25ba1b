"""Sections of a profile that name language models, and what is built from them."""

import pytest
from scripted_server import chat, problem

from contracts.errors import CheckpointError, InvalidInput, ModelError
from flows.cli import main
from flows.language_models import LOCAL_OUTPUT_TOKENS, OUTPUT_TOKENS, local_chat, price_given, remote_chat
from flows.profiles.language import ModifierProfile
from flows.profiles.loading import DefenderProfile, changed, changed_modifier, load_profile
from servers.budget import Price

RULES = ModifierProfile(kind="rules", lexicon="tabletop")


def profile_with(tmp_path, section):
    bundled = load_profile("tabletop")
    text = f"""
[generator]
kind = "diffusers"
path = "{bundled.generator.path}"
steps = 2
guidance_scale = 1.0
[defender]
kind = "legion"
path = "{bundled.defender.path}"
[selection_scorer]
kind = "clip"
name = "preference"
path = "{bundled.selection_scorer.path}"
[modifier]
{section}
"""
    path = tmp_path / "own.toml"
    path.write_text(text)
    return str(path)


def test_a_profile_says_everything_about_its_language_model(tmp_path):
    path = profile_with(
        tmp_path,
        'kind = "openai"\nlexicon = "general"\nmodel = "m"\nbase_url = "http://localhost:1/v1"\n'
        'timeout = 5\nusd_per_million_input = 1\nusd_per_million_output = 2\nformat = "json"\n'
        "[modifier.budget]\ncalls = 3\nusd = 0.5",
    )
    section = load_profile(path).modifier
    assert (section.budget.calls, section.budget.tokens, section.budget.usd) == (3, 100_000, 0.5)
    assert price_given(section) == Price(1, 2)
    model = remote_chat(section)
    assert (model.settings.model, model.settings.format) == ("m", "json")
    assert model.settings.max_output_tokens == OUTPUT_TOKENS
    assert model.server.settings.timeout == 5


def test_a_gguf_file_is_found_from_the_profiles_folder(tmp_path):
    path = profile_with(tmp_path, 'kind = "local"\nlexicon = "general"\ngguf = "models/x.gguf"')
    assert load_profile(path).modifier.gguf == str(tmp_path / "models" / "x.gguf")


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ('kind = "opanai"\nlexicon = "general"', "modifier.kind"),
        ('kind = "rules"\nlexicon = "general"\nmodel = "m"', "model is no key of a modifier of kind rules"),
        ('kind = "local"\nlexicon = "general"\nbase_url = "http://x/v1"', "base_url is no key"),
        ('kind = "openai"\nlexicon = "general"\ngguf = "x"', "gguf is no key"),
        ('kind = "openai"\nlexicon = "general"\nmodle = "x"', "unknown key 'modifier.modle'"),
        ('kind = "openai"\nlexicon = "general"\nkey = "sk-canary"', "unknown key 'modifier.key'"),
        ('kind = "openai"\nlexicon = "general"\nusd_per_million_input = 1', "give both"),
        (
            'kind = "openai"\nlexicon = "general"\n[modifier.budget]\ncall = 1',
            "unknown key 'modifier.budget.call'",
        ),
    ],
)
def test_wrong_sections_are_told_in_one_line_without_their_secrets(tmp_path, section, told):
    with pytest.raises(InvalidInput) as error:
        load_profile(profile_with(tmp_path, section))
    assert told in str(error.value) and "sk-canary" not in str(error.value)


def test_options_replace_the_section_and_keep_the_vocabulary():
    made = changed_modifier(RULES, {"kind": "openai", "model": "m"})
    assert (made.kind, made.model, made.lexicon) == ("openai", "m", "tabletop")
    kept = changed_modifier(made, {"kind": "openai", "base_url": "http://x/v1"})
    assert (kept.model, kept.base_url) == ("m", "http://x/v1")
    assert changed_modifier(kept, {"kind": "rules"}) == RULES
    with pytest.raises(InvalidInput, match="--modifier"):
        changed_modifier(RULES, {"kind": "local", "model": "m"})


def test_a_server_with_one_model_needs_no_name(scripted_server, monkeypatch):
    section = ModifierProfile(kind="openai", lexicon="general", base_url=scripted_server.url)
    assert remote_chat(section).settings.model == "tiny"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    with pytest.raises(InvalidInput, match="--llm-model"):
        remote_chat(ModifierProfile(kind="openai", lexicon="general"))


def test_without_a_server_the_name_cannot_be_asked_for():
    section = ModifierProfile(kind="openai", lexicon="general", base_url="http://127.0.0.1:9/v1", attempts=1)
    with pytest.raises(ModelError, match="cannot be reached"):
        remote_chat(section)


def test_files_that_are_no_model(tmp_path):
    (tmp_path / "x.gguf").write_text("hello")
    for gguf, told in (("x.gguf", "no GGUF file"), ("none.gguf", "cannot be read")):
        with pytest.raises(CheckpointError, match=told):
            local_chat(ModifierProfile(kind="local", lexicon="general", gguf=str(tmp_path / gguf)))
    assert LOCAL_OUTPUT_TOKENS < OUTPUT_TOKENS


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "legion"}, "path is missing"),
        ({"kind": "legion", "path": "x", "model": "m"}, "model is no key of a defender of kind legion"),
        ({"kind": "vlm", "four_bit": True}, "four_bit is no key of a defender of kind vlm"),
    ],
)
def test_defenders_have_their_own_keys(values, told):
    with pytest.raises(ValueError, match=told):
        DefenderProfile.model_validate(values)


def test_a_defenders_options_keep_its_kind():
    section = DefenderProfile.model_validate({"kind": "vlm", "model": "m"})
    assert changed(section, {"tiles": 2}).model == "m"
    with pytest.raises(InvalidInput, match="four_bit is no key"):
        changed(section, {"four_bit": True})


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--modifier", "rules", "--llm-model", "m"], "asks no language model"),
        (["--modifier", "local", "--llm-base-url", "http://x/v1"], "runs in this process"),
        (["--modifier", "gpt"], "invalid choice"),
    ],
)
def test_options_that_contradict_each_other(scripted, words, told, capsys):
    assert main(["regenerate", "a red cone", "--no-prefect", *words]) == 1
    captured = capsys.readouterr()
    assert told in captured.err and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--modifier", "local"], {"kind": "local"}),
        (["--llm-model", "models/x.gguf"], {"kind": "local", "gguf": "models/x.gguf"}),
        (["--llm-model", "m"], {"kind": "openai", "model": "m"}),
        (
            ["--llm-base-url", "http://x/v1", "--llm-model", "x.gguf"],
            {"kind": "openai", "model": "x.gguf", "base_url": "http://x/v1"},
        ),
        (["--modifier", "rules"], {"kind": "rules"}),
    ],
)
def test_options_choose_the_modifier(scripted, words, expected, monkeypatch):
    from flows import assemble

    seen = []

    def with_modifier(tools, profile, changes):
        seen.append((profile, dict(changes)))
        return tools

    monkeypatch.setattr(assemble, "with_modifier", with_modifier, raising=False)
    assert main(["regenerate", "a red cone", "--no-prefect", "--json", *words]) == 0
    assert seen == [("tabletop", expected)]


def test_nothing_is_asked_of_a_server_before_a_flaw_is_found(scripted_server):
    scripted_server.say(problem(500, "x"), chat("x"))
    remote_chat(ModifierProfile(kind="openai", lexicon="general", base_url=scripted_server.url, model="m"))
    assert scripted_server.bodies == []

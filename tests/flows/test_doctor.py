"""`legion doctor` and `legion profiles`: a finding for everything, a traceback for nothing."""

from __future__ import annotations

import json

import pytest
from scripted_server import send

from flows import health
from flows.cli import main
from flows.profiles.loading import BUNDLED, bundled_profiles

TEXT = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No torch: the device and the hub's cache are looked at by stand-ins."""
    monkeypatch.setattr(health, "_device", lambda: "cpu (a stand-in)")
    monkeypatch.setattr(health, "_on_this_machine", lambda path: path == "org/here")


def examined(capsys, *words):
    assert main(["doctor", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_profiles_are_looked_at_and_every_missing_part_has_a_command(capsys):
    found = examined(capsys)
    assert [p["name"] for p in found["profiles"]][0] == "tabletop"
    assert {p["name"] for p in found["profiles"]} == set(bundled_profiles())
    parts = {p["name"]: p["parts"] for p in found["profiles"]}
    assert all(part["here"] for part in parts["tabletop"])
    missing = [part for name, rows in parts.items() if name != "tabletop" for part in rows]
    assert not any(part["here"] for part in missing)
    assert all(part["get"].split()[0] in ("hf", "legion") for part in missing)
    assert {part["part"] for part in parts["sdxl"]} >= {"generator", "inpainter", "defender", "scorer hps"}
    assert '"*/*.fp16.safetensors"' in parts["sdxl"][0]["get"]
    assert found["packages"]["torch"] and found["machine"]["memory"].endswith("GB")


def test_people_read_lines_and_each_command_once(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "profile tabletop" in text and text.count("hf download xswu/HPSv2") == 1
    assert "Traceback" not in text


def test_one_profile_alone_and_weights_in_the_hubs_cache(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(TEXT.replace("tabletop/weights/generator", "org/here", 1))
    (profile,) = examined(capsys, "--profile", str(path))["profiles"]
    assert profile["parts"][0]["here"] and not profile["parts"][1]["here"]


def test_servers_are_asked(capsys, tmp_path, scripted_server):
    begin, end = TEXT.index("[generator]"), TEXT.index("[defender]")
    path = tmp_path / "mine.toml"

    def state(model, url):
        section = f'[generator]\nkind = "openai-images"\nmodel = "{model}"\nbase_url = "{url}"\n\n'
        path.write_text(TEXT[:begin] + section + TEXT[end:])
        (profile,) = examined(capsys, "--profile", str(path))["profiles"]
        return profile["servers"][0]["state"]

    assert state("tiny", scripted_server.url) == "answers"
    assert state("other", scripted_server.url) == "answers, but does not list other"
    assert "cannot be reached" in state("tiny", "http://127.0.0.1:9/v1")


def test_whatever_is_broken_is_a_line(capsys, monkeypatch):
    def broken(*_):
        raise RuntimeError("the driver\nis too old")

    for look in ("_memory", "_device", "_parts"):
        monkeypatch.setattr(health, look, broken)
    monkeypatch.setattr(health, "_version", lambda name: None)
    found = examined(capsys)
    assert found["machine"]["device"] == found["machine"]["memory"] == "the driver is too old"
    assert all(profile["problem"] == "the driver is too old" for profile in found["profiles"])
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "peft not installed: pip install 'legion-studio[peft]'" in text
    assert "torch not installed: pip install torch" in text


def test_a_broken_profile_of_ones_own_does_not_hide_the_others(capsys):
    folder = health.user_profiles()
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("[generator")
    found = {profile["name"]: profile for profile in examined(capsys)["profiles"]}
    assert "cannot be read" in found["mine"]["problem"] and "parts" in found["sdxl"]


def test_a_misspelled_profile_is_an_error(capsys):
    assert main(["doctor", "--profile", "sdlx"]) == 1
    assert "did you mean 'sdxl'" in capsys.readouterr().err


def test_a_memory_of_no_answer(scripted_server):
    scripted_server.say(send(200, "{}"))
    assert health._server("defender", _Section(scripted_server.url))["state"] == "answers"


class _Section:
    model, key_variable = "", None

    def __init__(self, url):
        self.base_url = url


def test_profiles_are_listed_and_shown(capsys):
    assert main(["profiles"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in bundled_profiles())
    assert main(["profiles", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["profiles"]}
    assert rows["sdxl"]["inpainter"] == "stable-diffusion-xl-1.0-inpainting-0.1"
    assert rows["sdxl-turbo"]["guidance"] == "0" and rows["tabletop"]["size"] == "its own"
    assert main(["profiles", "flux-dev"]) == 0
    assert 'generator.path = "black-forest-labs/FLUX.1-dev"' in capsys.readouterr().out
    assert main(["profiles", "flux-dve"]) == 1
    assert "did you mean 'flux-dev'" in capsys.readouterr().err


def test_one_broken_file_does_not_hide_the_list(capsys):
    folder = health.user_profiles()
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("[generator")
    assert main(["profiles"]) == 0
    captured = capsys.readouterr()
    assert "sdxl" in captured.out and "mine.toml cannot be read" in captured.err

"""`legion doctor` and `legion profiles`: a finding for everything, a traceback for nothing."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from scripted_server import send

from controller.checkpoints import lacks_of_pipeline
from flows.cli import main
from flows.health import examining, services, weights
from flows.profiles.loading import BUNDLED, bundled_profiles, load_profile
from flows.settings import CHECKOUT

TEXT = (BUNDLED / "tabletop.toml").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """No torch: the device and the hub's cache are looked at by stand-ins."""
    monkeypatch.setattr(examining, "_device", lambda: "cpu (a stand-in)")
    monkeypatch.setattr(weights, "_on_this_machine", lambda path, variant: path == "org/here")
    monkeypatch.setattr(services, "_prefect_url", lambda: None)


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
    assert '"*/*.fp16*.safetensors"' in parts["sdxl"][0]["get"]
    assert found["packages"]["torch"] and found["machine"]["memory"].endswith("GB")


def test_the_documentation_has_the_commands_of_every_profile():
    text = (CHECKOUT / "docs" / "models.md").read_text(encoding="utf-8")
    told = text[text.index("<!-- weights: begin -->") : text.index("<!-- weights: end -->")]
    blocks = dict(re.findall(r"`([\w-]+)`\n\n```\n(.*?)\n```", told, re.DOTALL))
    profiles = {name: load_profile(name) for name in bundled_profiles() if name != "tabletop"}
    assert blocks == {name: "\n".join(weights.commands(profile)) for name, profile in profiles.items()}


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


def pipeline(folder, variant="", shards=1):
    """A diffusers folder of two models, with weights of a few bytes."""
    models = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    index = {name: ["diffusers", kind] for name, kind in models.items()}
    index |= {"scheduler": ["diffusers", "DDIMScheduler"], "safety_checker": [None, None]}
    for name in models:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
        for number in range(1, shards + 1):
            shard = f"-{number:05d}-of-{shards:05d}" if shards > 1 else ""
            safetensors(folder / name / f"model{variant and '.' + variant}{shard}.safetensors")
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def safetensors(path):
    header = json.dumps({"x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"1234")


def test_a_pipeline_is_here_when_all_that_is_loaded_of_it_is(tmp_path):
    plain = pipeline(tmp_path / "plain")
    assert lacks_of_pipeline(plain) == ""
    assert lacks_of_pipeline(plain, "fp16") == "the files of the variant fp16 are missing"
    half = pipeline(tmp_path / "half", "fp16")
    assert lacks_of_pipeline(half, "fp16") == ""
    assert lacks_of_pipeline(half) == "unet: the weights are missing"
    split = pipeline(tmp_path / "split", "fp16", shards=3)
    assert lacks_of_pipeline(split, "fp16") == ""
    next((split / "vae").glob("*-00002-of-*")).unlink()
    assert lacks_of_pipeline(split, "fp16") == "vae: 2 of 3 files of weights are there"
    file = plain / "vae" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert lacks_of_pipeline(plain) == "vae: model.safetensors is cut short"
    (plain / "unet" / "config.json").unlink()
    assert lacks_of_pipeline(plain) == "unet/config.json is missing"
    assert lacks_of_pipeline(tmp_path) == "model_index.json is missing or damaged"


def test_an_empty_or_half_filled_folder_is_not_here(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    places = {name: tmp_path / name for name in ("generator", "inpainter", "defender", "scorer", "reporter")}
    text = TEXT
    for name, place in places.items():
        place.mkdir()
        text = text.replace(f'"tabletop/weights/{name}"', f'"{place}"')
    path.write_text(text)
    pipeline(places["inpainter"])

    def lacks():
        (profile,) = examined(capsys, "--profile", str(path))["profiles"]
        return {part["part"]: part["lacks"] for part in profile["parts"] if not part["here"]}

    assert lacks() == {
        "generator": "model_index.json is missing or damaged",
        "defender": "config.json is missing",
        "scorer preference": "config.json is missing",
        "scorer reporter": "config.json is missing",
    }
    (places["defender"] / "config.json").write_text("{}")
    safetensors(places["defender"] / "model.safetensors")
    pipeline(places["generator"])
    for name in ("config.json", "preprocessor_config.json", "vocab.json", "model.bin"):
        (places["scorer"] / name).write_text("{}")
        (places["reporter"] / name).write_text("")
    cut = "config.json is cut short"
    assert lacks() == {"defender": "tokenizer.model is missing", "scorer reporter": cut}
    assert main(["doctor", "--profile", str(path)]) == 0
    assert f"defender: {places['defender']}: missing: tokenizer.model is missing" in capsys.readouterr().out


def test_imagereward_needs_its_vocabulary(tmp_path):
    part = weights.Part("scorer", str(tmp_path / "ImageReward.pt"), "imagereward")
    assert part.lacks() == "there is nothing"
    (tmp_path / "ImageReward.pt").write_text("weights")
    assert part.lacks() == "vocab.txt is missing"
    (tmp_path / "vocab.txt").write_text("[PAD]")
    assert part.lacks() == ""
    assert weights.Part("scorer", str(tmp_path / "vocab.txt"), "file").lacks() == ""


def stand(name):
    """How a service stands."""
    return next(row for row in services.examine() if row["service"] == name)


def test_nothing_is_made_by_looking():
    assert stand("Prefect's server")["state"].startswith("each command starts one")
    assert stand("database")["state"] == stand("store")["state"] == "is made by the first run"
    assert not Path(os.environ["LEGION_HOME"]).exists()


def test_a_bank_that_is_there_answers():
    from memory_bank import open_memory_bank

    open_memory_bank()
    assert stand("database")["state"] == "answers"
    assert stand("database")["place"].endswith("memory_bank.sqlite3")


def test_a_damaged_database_is_a_line(monkeypatch, tmp_path):
    (tmp_path / "broken.sqlite3").write_text("no database " * 100)
    monkeypatch.setenv("LEGION_DATABASE_URL", f"sqlite:///{tmp_path}/broken.sqlite3")
    assert "is no usable SQLite database" in stand("database")["state"]


def test_a_server_of_prefect_is_asked(monkeypatch, scripted_server):
    monkeypatch.setattr(services, "_prefect_url", lambda: scripted_server.url)
    assert stand("Prefect's server") == {
        "service": "Prefect's server",
        "place": scripted_server.url,
        "state": "answers",
    }
    monkeypatch.setattr(services, "_prefect_url", lambda: "http://127.0.0.1:9/api")
    assert "refused" in stand("Prefect's server")["state"]
    assert stand("Prefect's server")["state"].endswith("start it, or unset PREFECT_API_URL")


def test_a_database_that_is_away_is_a_line_without_its_password(monkeypatch):
    monkeypatch.setenv("LEGION_DATABASE_URL", "postgresql://me:secret@127.0.0.1:9/bank")
    row = stand("database")
    assert "start it" in row["state"] and "LEGION_DATABASE_URL" in row["state"]
    assert "secret" not in json.dumps(row)


def test_what_hangs_holds_nobody_up(monkeypatch):
    hanging = services.Service("database", lambda: time.sleep(60), "start it")
    monkeypatch.setattr(services, "SERVICES", (hanging,))
    monkeypatch.setattr(services, "PATIENCE", 0.1)
    begun = time.monotonic()
    assert services.examine() == [
        {"service": "database", "place": "", "state": "no answer within 0.1 s: start it"}
    ]
    assert time.monotonic() - begun < 5


def test_a_store_on_no_known_file_system_is_a_line(monkeypatch):
    monkeypatch.setenv("LEGION_STORE_URL", "nowhere://key:secret@bucket/x")
    row = stand("store")
    assert "LEGION_STORE_URL" in row["state"] and "secret" not in json.dumps(row)


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

    for look in ("_memory", "_device"):
        monkeypatch.setattr(examining, look, broken)
    for part in (weights, services):
        monkeypatch.setattr(part, "examine", broken)
    monkeypatch.setattr(examining, "_version", lambda name: None)
    found = examined(capsys)
    assert found["machine"]["device"] == found["machine"]["memory"] == "the driver is too old"
    assert all(profile["problem"] == "the driver is too old" for profile in found["profiles"])
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "peft not installed: pip install 'legion-studio[peft]'" in text
    assert "torch not installed: pip install torch" in text
    assert "cannot be looked at: the driver is too old" in text
    for extra in ("dask", "ray", "postgres", "s3", "tensorboard"):
        assert f"pip install 'legion-studio[{extra}]'" in text


def test_a_broken_profile_of_ones_own_does_not_hide_the_others(capsys):
    folder = examining.user_profiles()
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("[generator")
    found = {profile["name"]: profile for profile in examined(capsys)["profiles"]}
    assert "cannot be read" in found["mine"]["problem"] and "parts" in found["sdxl"]


def test_a_misspelled_profile_is_an_error(capsys):
    assert main(["doctor", "--profile", "sdlx"]) == 1
    assert "did you mean 'sdxl'" in capsys.readouterr().err


def test_a_memory_of_no_answer(scripted_server):
    scripted_server.say(send(200, "{}"))
    assert examining._server("defender", _Section(scripted_server.url))["state"] == "answers"


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
    assert rows["sdxl"]["region_steps"] == 20 and rows["flux-dev"]["region_steps"] == 50
    assert rows["sdxl-turbo"]["guidance"] == 0 and rows["sdxl-turbo"]["inpainter"] is None
    assert rows["tabletop"]["width"] == 64 and rows["tabletop"]["region_steps"] == 16
    assert main(["profiles", "flux-dev"]) == 0
    assert 'generator.path = "black-forest-labs/FLUX.1-dev"' in capsys.readouterr().out
    assert main(["profiles", "flux-dve"]) == 1
    assert "did you mean 'flux-dev'" in capsys.readouterr().err


def test_one_broken_file_does_not_hide_the_list(capsys):
    folder = examining.user_profiles()
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("[generator")
    assert main(["profiles"]) == 0
    captured = capsys.readouterr()
    assert "sdxl" in captured.out and "mine.toml cannot be read" in captured.err

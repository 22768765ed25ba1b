"""The command with a vision model as the defender, over a real HTTP server and a small SAM."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scripted_server import chat, html
from tiny_sam import save_sam

from flows import assemble
from flows.cli import main
from flows.profiles.loading import BUNDLED
from flows.settings import CHECKOUT

pytestmark = pytest.mark.slow

SHADOW = {
    "box": [100, 600, 500, 900],
    "phrase": "the shadow",
    "explanation": "the shadow falls toward the light",
    "category": "physics",
    "confidence": 0.8,
}


def says(*findings):
    return chat(json.dumps({"findings": list(findings)}))


@pytest.fixture
def profile(scripted_server, tmp_path):
    """The bundled profile with a vision model in the defender's place."""
    save_sam(tmp_path / "sam_tiny.pth")
    bundled = (BUNDLED / "tabletop.toml").read_text().replace('"tabletop/', f'"{CHECKOUT}/tabletop/')
    begin, end = bundled.index("[defender]"), bundled.index("# The scorer that selects")
    section = f'[defender]\nkind = "vlm"\nmodel = "seer"\nbase_url = "{scripted_server.url}"\nattempts = 1\n'
    path = tmp_path / "seeing.toml"
    path.write_text(f'{bundled[:begin]}{section}path = "sam_tiny.pth"\n\n{bundled[end:]}')
    for cached in (assemble.regeneration_tools, assemble.defender):
        cached.cache_clear()
    yield str(path)
    for cached in (assemble.regeneration_tools, assemble.defender):
        cached.cache_clear()


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    return str(path)


def test_diagnose_finds_what_the_model_points_at(scripted_server, profile, picture, tmp_path, capsys):
    scripted_server.say(says(SHADOW))
    out = ["--out", str(tmp_path / "out")]
    assert main(["diagnose", picture, "--profile", profile, "--json", *out]) == 0
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert (found["phrase"], found["category"], found["confidence"]) == ("the shadow", "physics", 0.8)
    left, top, right, bottom = found["box"]
    assert 0 <= left < right <= 37 and 34 <= top < bottom <= 62


def test_a_model_that_does_not_answer_is_one_line_and_no_clean_picture(
    scripted_server, profile, picture, tmp_path, capsys
):
    for reply, told in ((html(), "a web page"), (chat("Looks fine to me!"), "no usable diagnosis")):
        scripted_server.say(reply)
        assert main(["diagnose", picture, "--profile", profile, "--out", str(tmp_path / "out")]) == 1
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1 and told in captured.err and "no artifacts" not in captured.out


def test_a_spent_budget_ends_the_run_which_goes_on_with_a_larger_one(
    scripted_server, profile, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("LEGION_HOME", str(tmp_path / "home"))
    path = Path(profile)
    first = path.read_text()
    at = first.index("# The scorer that selects")
    scripted_server.say(says(SHADOW))
    words = ["regenerate", "a red cone", "--profile", profile, "--no-prefect", "--run-id", "spent"]
    words += ["--rounds", "2", "--json", "--out", str(tmp_path / "out")]
    path.write_text(f"{first[:at]}[defender.budget]\ncalls = 1\n\n{first[at:]}")
    assert main(words) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "budget of 1 call is spent: raise [defender.budget] in the profile" in said
    path.write_text(path.read_text().replace("calls = 1", "calls = 9"))
    for cached in (assemble.regeneration_tools, assemble.defender):
        cached.cache_clear()
    assert main(words) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert len(run["rounds"]) == 2 and len(scripted_server.bodies) == 2, "a picture was looked at twice"


def test_regenerate_works_with_a_vision_model(scripted_server, profile, tmp_path, capsys):
    scripted_server.say(says(SHADOW), says())
    words = ["regenerate", "a red cone on a wooden table", "--rounds", "2", "--no-prefect", "--json"]
    assert main([*words, "--profile", profile, "--out", str(tmp_path / "out")]) == 0
    first, second = json.loads(capsys.readouterr().out)["runs"][0]["rounds"]
    assert [f["phrase"] for f in first["findings"]] == ["the shadow"] and second["findings"] == []
    assert second["prompt"] == "a red cone on a wooden table, natural shadow"

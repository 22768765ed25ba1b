"""`legion weights`: a released layout goes in, a folder that describes itself comes out."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image as Pillow

from flows.cli import main
from flows.profiles.loading import BUNDLED

sys.path.append(str(Path(__file__).parent.parent / "defender"))

from upstream_folders import write_clip, write_merged  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A tiny merged folder and its CLIP; decoder heads, which no file tells, are the tiny network's."""
    from upstream_folders import BASE

    monkeypatch.setattr("defender.importing.LegionConfig", lambda: BASE)
    return write_merged(tmp_path / "merged"), write_clip(tmp_path / "clip")


def test_import_then_show(tmp_path, capsys, sources):
    merged, clip = map(str, sources)
    out = str(tmp_path / "out")
    assert main(["weights", "import", merged, out, "--clip", clip]) == 0
    said = capsys.readouterr().out
    assert "vision tower: clip" in said and "left out, not needed: 3" in said
    assert main(["weights", "show", out]) == 0
    said = capsys.readouterr().out
    assert said.startswith("LEGION, ready for use")
    assert "absent or not trained: detection head" in said
    assert "image tokens: 576; SAM canvas: 128 pixels" in said
    assert "not calibrated" in said and "float32" in said


def diagnosis(capsys, picture, *words):
    """What `legion diagnose` says as JSON, without the places of its files, and its masks."""
    assert main(["diagnose", str(picture), "--json", *map(str, words)]) == 0, capsys.readouterr().err
    said = json.loads(capsys.readouterr().out)
    masks = [Path(finding.pop("mask")).read_bytes() for finding in said["findings"]]
    return said["answer"], said["findings"], masks, said["synthetic_probability"]


def test_a_released_folder_is_used_as_it_is(tmp_path, capsys, sources, monkeypatch):
    from flows import assemble

    merged, clip = sources
    picture = tmp_path / "picture.png"
    Pillow.effect_noise((60, 40), 90).convert("RGB").save(picture)
    assert main(["weights", "import", str(merged), str(tmp_path / "ours"), "--clip", str(clip)]) == 0
    capsys.readouterr()
    monkeypatch.chdir(tmp_path)
    directly = diagnosis(capsys, picture, "--defender", "merged", "--clip", "clip")
    assert directly == diagnosis(capsys, picture, "--defender", "ours")

    profile = tmp_path / "mine.toml"
    bundled = (BUNDLED / "tabletop.toml").read_text()
    before = bundled[bundled.index("[defender]") :].splitlines()[:3]
    own = ["[defender]", 'kind = "legion"', 'path = "merged"\nclip = "clip"']
    profile.write_text(
        bundled.replace("\n".join(before), "\n".join(own)).replace("artifact_probability", "# ")
    )
    assert diagnosis(capsys, picture, "--profile", profile) == directly
    described = [
        assemble.legion("tabletop", path=str(p), clip=str(clip)).describe() for p in (merged, "ours")
    ]
    assert described[0] == described[1]


def test_what_a_released_folder_lacks_is_asked_for_in_one_line(tmp_path, capsys, sources):
    picture = tmp_path / "picture.png"
    Pillow.new("RGB", (8, 8)).save(picture)
    file = sources[0] / "pytorch_model-00001-of-00002.bin"
    for words, told in (
        (["--defender", sources[0]], "with --clip (in a profile: clip)"),
        (["--defender", sources[0], "--clip", tmp_path / "none"], "none (no such file or folder)"),
        (["--defender", file], "legion weights import"),
    ):
        assert main(["diagnose", str(picture), *map(str, words)]) == 1
        streams = capsys.readouterr()
        assert streams.err.count("\n") == 1 and told in streams.err and not streams.out


def test_json_of_both(tmp_path, capsys, sources):
    merged, clip = map(str, sources)
    out = str(tmp_path / "out")
    assert main(["weights", "import", merged, out, "--clip", clip, "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert main(["weights", "show", out, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["bytes"] == done["bytes"] == sum(part["bytes"] for part in shown["parts"])
    assert sum(part["tensors"] for part in shown["parts"]) == done["tensors"]
    assert len(shown["digest"]) == 64


def test_show_names_what_a_released_folder_lacks(capsys, sources):
    assert main(["weights", "show", str(sources[0])]) == 0
    said = capsys.readouterr().out
    assert said.startswith("merged checkpoint (LegionForCausalLM)")
    assert "absent or not trained: vision tower, detection head" in said
    assert "region encoder" in said


def test_errors_are_one_line(tmp_path, capsys, sources):
    (sources[0] / "pytorch_model-00001-of-00002.bin").unlink()
    for words in (
        ["import", str(sources[0]), str(tmp_path / "out"), "--clip", str(sources[1])],
        ["show", str(sources[0])],
        ["show", str(tmp_path / "nothing")],
        ["import", str(sources[0])],
        [],
    ):
        assert main(["weights", *words]) == 1
        streams = capsys.readouterr()
        assert streams.err.startswith("error: ") and streams.err.count("\n") == 1
        assert streams.out == ""

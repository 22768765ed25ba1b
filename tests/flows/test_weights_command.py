"""`legion weights`: a released layout goes in, a folder that describes itself comes out."""

import json
import sys
from pathlib import Path

import pytest

from flows.cli import main

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

"""Names on the hub: paths win, the cache is asked before the network, and failure is one line."""

import json

import pytest

from contracts.errors import CheckpointError
from defender.hub import locate, weight_files


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository; `asked` lists what was asked of it."""
    import huggingface_hub

    asked, cached = [], []
    (tmp_path / "snapshot").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "snapshot" / name).touch()

    class Info:
        siblings = [type("File", (), {"rfilename": name}) for name in ("config.json", "pytorch_model.bin")]

    def snapshot(repo, revision=None, local_files_only=False, allow_patterns=None):
        if local_files_only and repo not in cached:
            raise FileNotFoundError("not in the cache")
        asked.append((repo, revision, local_files_only, allow_patterns))
        return str(tmp_path / "snapshot")

    def info(repo, revision=None, timeout=None):
        if repo != "org/name":
            raise ConnectionError("Name or service not known\nand more")
        return Info

    def single(repo, file, revision=None):
        asked.append((repo, file, revision))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    monkeypatch.setattr(huggingface_hub, "model_info", info)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", single)
    return asked, cached


def test_a_path_wins(tmp_path, hub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert str(locate("org/name")) == "org/name" and hub[0] == []


def test_a_name_is_downloaded_without_what_nobody_reads(hub):
    assert locate("org/name@abc123").name == "snapshot"
    ((repo, revision, local, patterns),) = hub[0]
    assert (repo, revision, local) == ("org/name", "abc123", False)
    assert "pytorch_model*.bin" in patterns and "config.json" in patterns
    assert not any("safetensors" in pattern or "h5" in pattern for pattern in patterns)


def test_the_cache_needs_no_network(hub):
    asked, cached = hub
    cached.append("other/name")
    assert locate("other/name").name == "snapshot" and asked[0][2]


def test_a_single_file(hub):
    assert locate("org/name/checkpoints/sam_vit_h.pth").name == "sam_vit_h.pth"
    assert hub[0] == [("org/name", "checkpoints/sam_vit_h.pth", None)]


def test_without_a_network_it_is_one_line(hub):
    with pytest.raises(CheckpointError, match="gave nothing of that name .ConnectionError: Name") as caught:
        locate("offline/name")
    assert "\n" not in str(caught.value) and "give its path" in str(caught.value)


@pytest.mark.parametrize("given", ["nothing", "/no/such/folder", "../a/b", "a b/c"])
def test_what_is_no_name_is_a_missing_path(hub, given):
    with pytest.raises(CheckpointError, match="no such file or folder"):
        locate(given)


def test_safetensors_come_first():
    assert "model*.safetensors" in weight_files(["model-00001-of-00002.safetensors", "pytorch_model.bin"])
    assert "pytorch_model*.bin" in weight_files(["pytorch_model.bin", "onnx/model.safetensors"])


def test_an_interrupted_download_is_completed(hub, tmp_path):
    asked, cached = hub
    cached.append("org/name")
    index = {"weight_map": {"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"}}
    (tmp_path / "snapshot" / "model.safetensors").unlink()
    (tmp_path / "snapshot" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (tmp_path / "snapshot" / "pytorch_model-00001-of-00002.bin").touch()
    locate("org/name")
    assert [local for _, _, local, _ in asked] == [True, False]
    (tmp_path / "snapshot" / "pytorch_model-00002-of-00002.bin").touch()
    locate("org/name")
    assert [local for _, _, local, _ in asked] == [True, False, True]


def test_settings_need_no_weights(hub, tmp_path):
    asked, cached = hub
    locate("org/name", weights=False)
    assert not any("bin" in pattern for pattern in asked[-1][3])
    cached.append("org/name")
    (tmp_path / "snapshot" / "model.safetensors").unlink()
    locate("org/name", weights=False)
    assert asked[-1][2]

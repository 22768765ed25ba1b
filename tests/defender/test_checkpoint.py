"""A defender on disk: what is saved is loaded, and what does not fit is named."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from contracts.errors import CheckpointError
from defender import checkpoint
from defender.checkpoint import Thresholds
from defender.model import Legion

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path, model, dialog):
    checkpoint.save(tmp_path, model, dialog.tokenizer, Thresholds(0.7), dtype=torch.float32)
    return tmp_path


def test_round_trip(folder, model, dialog):
    loaded = checkpoint.load(folder)
    assert loaded.thresholds == Thresholds(0.7)
    assert loaded.dialog.config == dialog.config
    assert not loaded.model.training
    weights = loaded.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    picture = torch.rand(1, 3, 32, 32)
    ours, theirs = (m.look(picture)[1] for m in (loaded.model, model))
    assert torch.equal(ours, theirs)
    prompt = torch.tensor(dialog.prompt)
    assert torch.equal(loaded.model.generate(ours, prompt).ids_BS, model.generate(ours, prompt).ids_BS)


def test_half_precision_on_disk_is_full_precision_in_memory(tmp_path, model, dialog):
    checkpoint.save(tmp_path, model, dialog.tokenizer)
    assert load_file(tmp_path / "model.safetensors")["lm_head.weight"].dtype == torch.float16
    assert checkpoint.load(tmp_path).model.lm_head.weight.dtype == torch.float32


def test_names_are_those_of_released_checkpoints(dialog):
    names = Legion.without_memory(dialog.config).state_dict()
    for name in (
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.norm.weight",
        "lm_head.weight",
        "model.mm_projector.0.weight",
        "model.mm_projector.2.bias",
        "model.text_hidden_fcs.0.0.weight",
        "model.text_hidden_fcs.0.2.weight",
        "model.grounding_encoder.image_encoder.blocks.0.attn.qkv.weight",
        "model.grounding_encoder.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix",
        "model.grounding_encoder.mask_decoder.mask_tokens.weight",
        "model.vision_tower.vision_tower.vision_model.pre_layrnorm.weight",
        "prediction_head.2.bias",
    ):
        assert name in names


def test_digest_follows_the_weights(folder, model, dialog):
    before = checkpoint.load(folder).digest
    assert checkpoint.load(folder).digest == before
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    checkpoint.save(folder, model, dialog.tokenizer, dtype=torch.float32)
    assert checkpoint.load(folder).digest != before


def test_every_name_that_does_not_fit_is_listed(folder):
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.wait"] = weights.pop("lm_head.weight")
    weights["model.norm.weight"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(folder)
    message = str(caught.value)
    assert "1 missing (lm_head.weight)" in message
    assert "1 unexpected (lm_head.wait)" in message
    assert "model.norm.weight (3,) instead of (32,)" in message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.model"])
def test_missing_files(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        checkpoint.load(folder)


def test_damaged_weights(folder):
    (folder / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not a header")
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(folder)


@pytest.mark.parametrize("values", [{"min_confidence": 2}, {"confidence": 0.5}, {"min_area": True}, [1]])
def test_bad_thresholds(values):
    with pytest.raises(CheckpointError, match=r"thresholds\.json"):
        Thresholds.from_json(json.dumps(values))

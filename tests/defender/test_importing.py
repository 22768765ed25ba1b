"""Other people's checkpoints: what is converted computes the same, and what does not fit is named."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from upstream_folders import (
    BASE,
    CLIP,
    FIXTURES,
    HEAD,
    SAM,
    merged_weights,
    tiny_weights,
    write_clip,
    write_merged,
    write_settings,
    write_shards,
)

from contracts.errors import CheckpointError, InvalidInput
from defender import checkpoint
from defender.importing import import_weights
from defender.legion_defender import LegionDefender
from defender.tensor_files import open_file, write_safetensors

pytestmark = pytest.mark.slow


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip")


@pytest.fixture
def merged(tmp_path):
    return write_merged(tmp_path / "merged")


def names_without_buffers(weights):
    return {n: v for n, v in weights.items() if not n.endswith(("inv_freq", "position_ids"))}


def refused(source, target, **options):
    with pytest.raises(CheckpointError) as caught:
        import_weights(source, target, base=BASE, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    return str(caught.value)


def test_merged_folder_with_its_tower_from_clip(tmp_path, merged, clip):
    done = import_weights(merged, tmp_path / "out", clip=clip, base=BASE)
    assert (done.merged, done.config.has_detection, done.sources["vision tower"]) == (0, False, "clip")
    assert done.ignored == 3  # two rotary buffers and the region encoder
    loaded = checkpoint.load(tmp_path / "out")
    expected = names_without_buffers(tiny_weights())
    ours = loaded.model.state_dict()
    assert set(ours) == set(expected)
    assert all(torch.equal(ours[n], v) for n, v in expected.items() if not n.startswith(HEAD))
    assert float(ours["prediction_head.0.weight"].std()) > 0  # not zeros: these could not be trained


def test_imported_network_gives_upstreams_numbers(tmp_path, merged, clip):
    import_weights(merged, tmp_path / "out", clip=clip, base=BASE)
    model = checkpoint.load(tmp_path / "out").model
    known = load_file(FIXTURES / "legion_tiny_train.safetensors")
    with torch.no_grad():
        _, patches = model.look(known["clip_pixel_values"])
        embeds = model.embed(known["input_ids"], patches)
        seen = model.survey(known["sam_pixel_values"])
        prompts = torch.cat([known["seg_embeds_0"], known["seg_embeds_1"]])
        masks, _ = model.decode_masks(seen, prompts, torch.tensor([0, 0, 1]))
    torch.testing.assert_close(embeds, known["inputs_embeds"], atol=1e-4, rtol=0)
    expected = torch.cat([known["low_res_masks_0"], known["low_res_masks_1"]])
    torch.testing.assert_close(masks, expected, atol=1e-4, rtol=0)


def test_types_on_disk_are_kept(tmp_path, clip):
    write_settings(tmp_path / "src")
    weights = {n: v if n.startswith(SAM) else v.to(torch.bfloat16) for n, v in merged_weights().items()}
    write_shards(tmp_path / "src", weights)
    import_weights(tmp_path / "src", tmp_path / "out", clip=clip, base=BASE)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert stored["lm_head.weight"].dtype == torch.bfloat16
    assert stored[f"{SAM}mask_decoder.iou_token.weight"].dtype == torch.float32
    assert torch.equal(stored["lm_head.weight"], weights["lm_head.weight"])


def test_safetensors_with_everything_in_one_file(tmp_path):
    write_settings(tmp_path / "src")
    (tmp_path / "clip").mkdir()
    known = json.loads((FIXTURES / "legion_tiny_config.json").read_text())["clip"]
    (tmp_path / "clip" / "config.json").write_text(json.dumps(known))
    save_file(tiny_weights(), tmp_path / "src" / "model.safetensors")
    done = import_weights(tmp_path / "src", tmp_path / "out", clip=tmp_path / "clip", base=BASE)
    assert done.config.has_detection and done.sources["vision tower"] == "the source"
    ours = checkpoint.load(tmp_path / "out").model.state_dict()
    assert all(torch.equal(ours[n], v) for n, v in names_without_buffers(tiny_weights()).items())


def test_sam_from_its_own_file(tmp_path, clip):
    write_settings(tmp_path / "src")
    write_shards(tmp_path / "src", {n: v for n, v in merged_weights().items() if not n.startswith(SAM)})
    assert "--sam" in refused(tmp_path / "src", tmp_path / "out", clip=clip)
    sam = {n.removeprefix(SAM): v for n, v in tiny_weights().items() if n.startswith(SAM)}
    torch.save(sam, tmp_path / "sam.pth")
    done = import_weights(tmp_path / "src", tmp_path / "out", clip=clip, sam=tmp_path / "sam.pth", base=BASE)
    assert done.sources["segmentation"] == "sam.pth"
    ours = checkpoint.load(tmp_path / "out").model.state_dict()
    assert all(torch.equal(ours[SAM + n], v) for n, v in sam.items())
    torch.save(sam | {"pixel_mean": torch.zeros(3)}, tmp_path / "other.pth")
    message = refused(tmp_path / "src", tmp_path / "out2", clip=clip, sam=tmp_path / "other.pth")
    assert "unexpected pixel_mean" in message


def test_a_tower_is_asked_for_where_there_is_none(tmp_path, merged):
    assert "--clip" in refused(merged, tmp_path / "out")


def test_every_name_that_does_not_fit_is_listed_at_once(tmp_path, clip):
    write_settings(tmp_path / "src")
    weights = merged_weights()
    weights["lm_head.wait"] = weights.pop("lm_head.weight")
    weights["model.norm.weight"] = torch.zeros(3)
    weights["model.mm_projector.0.bias"] = torch.zeros(64, dtype=torch.int8)
    weights["extra.rotary_embedding"] = torch.zeros(1)
    write_shards(tmp_path / "src", weights)
    message = refused(tmp_path / "src", tmp_path / "out", clip=clip)
    assert "1 missing (lm_head.weight)" in message
    assert "2 unexpected (" in message and "extra.rotary_embedding" in message and "lm_head.wait" in message
    assert "model.norm.weight (3,) instead of (64,)" in message
    assert "1 not of a floating type of 16 bits or more (model.mm_projector.0.bias int8)" in message


def test_a_renamed_weight_that_tells_a_size_is_named_too(tmp_path, clip):
    write_settings(tmp_path / "src")
    weights = merged_weights()
    weights[f"{SAM}image_encoder.position"] = weights.pop(f"{SAM}image_encoder.pos_embed")
    write_shards(tmp_path / "src", weights)
    message = refused(tmp_path / "src", tmp_path / "out", clip=clip)
    assert f"{SAM}image_encoder.pos_embed" in message and f"{SAM}image_encoder.position" in message


def test_missing_shard(tmp_path, merged, clip):
    (merged / "pytorch_model-00002-of-00002.bin").unlink()
    message = refused(merged, tmp_path / "out", clip=clip)
    assert "1 of 2 shards (pytorch_model-00002-of-00002.bin)" in message


def test_weights_of_the_index_that_no_shard_has(tmp_path, merged, clip):
    index = merged / "pytorch_model.bin.index.json"
    values = json.loads(index.read_text())
    values["weight_map"]["model.lost.weight"] = "pytorch_model-00001-of-00002.bin"
    index.write_text(json.dumps(values))
    assert "model.lost.weight" in refused(merged, tmp_path / "out", clip=clip)


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/hostname"])
def test_shards_outside_the_folder(tmp_path, merged, clip, name):
    index = merged / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))
    assert "outside" in refused(merged, tmp_path / "out", clip=clip)


class Trap:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, merged, clip, zipped):
    trap = tmp_path / "sprung"
    shard = merged / "pytorch_model-00001-of-00002.bin"
    torch.save({"lm_head.weight": Trap(str(trap))}, shard, _use_new_zipfile_serialization=zipped)
    assert "code" in refused(merged, tmp_path / "out", clip=clip)
    shard.write_bytes(pickle.dumps(Trap(str(trap))))
    assert shard.name in refused(merged, tmp_path / "out", clip=clip)
    assert not trap.exists()


def test_a_shard_cut_short_and_one_that_is_no_checkpoint(tmp_path, merged, clip):
    shard = merged / "pytorch_model-00001-of-00002.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(merged, tmp_path / "out", clip=clip)
    torch.save({"lm_head.weight": [1, 2]}, shard)
    assert "plain dictionary" in refused(merged, tmp_path / "out", clip=clip)


def test_files_of_old_torch_versions(tmp_path, clip):
    write_settings(tmp_path / "src")
    torch.save(merged_weights(), tmp_path / "src" / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert import_weights(tmp_path / "src", tmp_path / "out", clip=clip, base=BASE).weights


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("config.json", "{", "JSON"),
        ("config.json", "[]", "object"),
        ("config.json", "{}", "hidden_size"),
        ("added_tokens.json", '{"[SEG]": 125}', "<im_start>"),
        ("tokenizer.model", "no model", "SentencePiece"),
        ("pytorch_model.bin.index.json", "{}", "index"),
    ],
)
def test_broken_files_beside_the_weights(tmp_path, merged, clip, name, text, told):
    (merged / name).write_text(text)
    assert told in refused(merged, tmp_path / "out", clip=clip)


def test_scaled_rope_is_refused(tmp_path, merged, clip):
    values = json.loads((merged / "config.json").read_text())
    (merged / "config.json").write_text(json.dumps(values | {"rope_scaling": {"type": "linear"}}))
    assert "rope_scaling" in refused(merged, tmp_path / "out", clip=clip)


def test_a_folder_in_use_is_left_alone(tmp_path, merged, clip):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(InvalidInput, match="exists"):
        import_weights(merged, tmp_path / "out", clip=clip, base=BASE)
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep"


def test_a_tower_of_unknown_width_needs_its_configuration(tmp_path):
    write_settings(tmp_path / "src")
    tower = {n: v for n, v in tiny_weights().items() if n.startswith(CLIP)}
    write_shards(tmp_path / "src", merged_weights() | tower)
    assert "32 wide, not 1024" in refused(tmp_path / "src", tmp_path / "out")


def raw_stage1(folder, peft):
    """A training checkpoint as one file, with adapters, bare or wrapped by peft as its name tells."""
    adapters = {
        n.removeprefix("base_model.model."): v
        for n, v in load_file(FIXTURES / "lora_tiny.safetensors").items()
        if ".lora_" in n
    }
    weights = merged_weights() | adapters
    if peft:
        pairs = {n.split(".lora_")[0] + ".weight" for n in adapters}
        weights = {
            n.replace(".weight", ".base_layer.weight") if n in pairs else n: v for n, v in weights.items()
        }
        weights = {f"base_model.model.{n}": v for n, v in weights.items()}
    folder.mkdir()
    torch.save(weights, folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"


@pytest.mark.parametrize("peft", [False, True])
def test_raw_stage_1_with_settings_from_the_base_folder(tmp_path, merged, clip, peft):
    file = raw_stage1(tmp_path / "raw", peft)
    assert "--config" in refused(file, tmp_path / "out", clip=clip)
    done = import_weights(file, tmp_path / "out", clip=clip, settings=merged, base=BASE)
    assert done.merged == 4
    ours = checkpoint.load(tmp_path / "out").model.state_dict()
    known = load_file(FIXTURES / "lora_tiny.safetensors")
    for name in (n for n in known if n.startswith("merged.")):
        torch.testing.assert_close(ours[name.removeprefix("merged.")], known[name], atol=1e-6, rtol=0)


def test_alpha_of_an_adapter_config(tmp_path, merged, clip):
    file = raw_stage1(tmp_path / "raw", peft=False)
    (merged / "adapter_config.json").write_text('{"r": 8, "lora_alpha": 8}')
    import_weights(file, tmp_path / "out", clip=clip, settings=merged, base=BASE)
    name = "model.layers.0.self_attn.q_proj.weight"
    before, known = tiny_weights()[name], load_file(FIXTURES / "lora_tiny.safetensors")[f"merged.{name}"]
    ours = checkpoint.load(tmp_path / "out").model.state_dict()[name]
    torch.testing.assert_close(ours, (before + known) / 2, atol=1e-6, rtol=0)  # half of alpha 16's change
    (merged / "adapter_config.json").write_text('{"lora_alpha": "16"}')
    assert "lora_alpha" in refused(file, tmp_path / "out2", clip=clip, settings=merged)


def test_half_an_adapter_is_refused(tmp_path, merged, clip):
    file = raw_stage1(tmp_path / "raw", peft=False)
    weights = torch.load(file, weights_only=True)
    del weights["model.layers.1.self_attn.v_proj.lora_B.default.weight"]
    torch.save(weights, file)
    message = refused(file, tmp_path / "out", clip=clip, settings=merged)
    assert "1 low-rank adapters" in message and "layers.1.self_attn.v_proj" in message


def test_eight_bits_of_fraction_are_refused_before_anything_is_written(tmp_path, clip):
    write_settings(tmp_path / "src")
    weights = merged_weights()
    weights["model.norm.weight"] = weights["model.norm.weight"].to(torch.float8_e4m3fn)
    write_shards(tmp_path / "src", weights)
    message = refused(tmp_path / "src", tmp_path / "out", clip=clip)
    assert "16 bits or more (model.norm.weight float8_e4m3fn)" in message
    safe = tmp_path / "weights.safetensors"
    save_file({"model.norm.weight": weights["model.norm.weight"]}, safe)
    stored = open_file(safe)
    assert stored["model.norm.weight"].dtype == torch.float8_e4m3fn
    with pytest.raises(CheckpointError, match="model.norm.weight float8_e4m3fn.*convert to bfloat16"):
        write_safetensors(tmp_path / "again.safetensors", stored)
    assert not list(tmp_path.glob("again*"))


def test_what_was_imported_answers_without_a_verdict_first(tmp_path, merged, clip):
    done = import_weights(merged, tmp_path / "out", clip=clip, base=BASE)
    assert not done.config.verdict_first
    defender = LegionDefender.load(tmp_path / "out")
    assert defender._branch is None

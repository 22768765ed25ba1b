"""From a folder or a name to a pipeline: adapters, precision, place in memory, and the hub."""

from __future__ import annotations

import importlib.util
import logging
import shutil

import numpy as np
import pytest
import torch

from contracts.errors import CheckpointError, InvalidInput
from contracts.hub import HubName, hub_name
from contracts.records import GenerationRequest, InpaintRequest
from controller.checkpoints import how_to_get, weights_digest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

REQUEST = [GenerationRequest("a red cone", 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tiny_checkpoints import save_pipeline

    return save_pipeline(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="module")
def lora(folder, tmp_path_factory):
    """An adapter for the tiny model that changes what it paints."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights="gaussian"))
    state = get_peft_model_state_dict(unet)
    torch.manual_seed(0)
    state = {name: torch.randn_like(value) for name, value in state.items()}
    place = tmp_path_factory.mktemp("loras")
    StableDiffusionPipeline.save_lora_weights(place, unet_lora_layers=state, weight_name="style.safetensors")
    return place / "style.safetensors"


def load(folder, **options):
    from controller.generators.diffusers_pipeline import DiffusersGenerator

    return DiffusersGenerator.load(folder, **{"steps": 2, "guidance_scale": 2.0, **options})


def test_a_lora_counts_by_its_scale_and_is_named_in_the_record(folder, lora):
    from controller.generators.loading import Lora

    plain = load(folder)
    none, full = (load(folder, loras=(Lora(str(lora), scale),)) for scale in (0.0, 1.0))
    before = plain.generate(REQUEST)[0]
    assert np.array_equal(none.generate(REQUEST)[0], before)
    assert not np.array_equal(full.generate(REQUEST)[0], before)
    assert full.describe()["loras"][0].startswith("style ") and "loras" not in plain.describe()


def test_a_lora_that_is_missing_or_made_for_another_model_is_one_line(folder, lora, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    from controller.generators.loading import Lora

    with pytest.raises(CheckpointError, match="no LoRA file"):
        load(folder, loras=(Lora(str(tmp_path / "nowhere.safetensors")),))
    other = tmp_path / "other.safetensors"
    save_file({"something.else.weight": torch.zeros(2, 2)}, other)
    with pytest.raises(CheckpointError) as caught:
        load(folder, loras=(Lora(str(other)),))
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InvalidInput, match=r"pip install 'legion-studio\[peft\]'"):
        load(folder, loras=(Lora(str(lora)),))


def test_quantized_loading_names_what_is_large_and_what_it_needs(folder, monkeypatch):
    import json

    from controller.generators import loading
    from controller.generators.loading import Weights

    with pytest.raises(InvalidInput, match="quantize = '8bit' needs a GPU: leave it out on a CPU"):
        load(folder, quantize="8bit")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InvalidInput, match=r"legion-studio\[4bit\]"):
        load(folder, quantize="4bit", device="cuda")
    index = json.loads((folder / "model_index.json").read_text())
    flux = {
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "text_encoder": ["transformers", "CLIPTextModel"],
    }
    flux |= {"text_encoder_2": ["transformers", "T5EncoderModel"], "text_encoder_3": [None, None]}
    assert [n for n in index if loading._is_large(index, n) and n in ("unet", "text_encoder")] == ["unet"]
    assert [n for n in flux if loading._is_large(flux, n)] == ["transformer", "text_encoder_2"]
    assert Weights(quantize="4bit").describe() == {"quantize": "4bit"}


def test_remarks_of_libraries_are_kept_off_the_terminal_while_painting_and_no_longer(caplog):
    from controller.generators.quiet import quiet

    log = logging.getLogger("bitsandbytes.autograd._functions")
    with quiet():
        log.warning("inputs will be cast")
        log.error("out of order")
    log.warning("later")
    assert [record.getMessage() for record in caplog.records] == ["out of order", "later"]


def test_half_precision_tiles_and_slices_reach_the_pipeline(folder):
    pipeline = load(folder, dtype="bfloat16", vae_tiling=True, vae_slicing=True).pipeline
    assert pipeline.unet.dtype == torch.bfloat16
    assert pipeline.vae.use_tiling and pipeline.vae.use_slicing
    assert not load(folder).pipeline.vae.use_tiling


def test_a_variant_is_loaded_by_its_own_files(folder, tmp_path):
    import diffusers

    copy = tmp_path / "both"
    diffusers.DiffusionPipeline.from_pretrained(folder).save_pretrained(copy, variant="fp16")
    assert np.array_equal(load(copy, variant="fp16").generate(REQUEST)[0], load(folder).generate(REQUEST)[0])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load(copy)


@pytest.mark.parametrize("device", ["warp", "cuda"])
def test_a_device_that_is_not_there_is_one_line(folder, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidInput, match="device"):
        load(folder, device=device)


def test_offloading_is_asked_of_the_pipeline_for_devices_that_have_their_own_memory(folder, monkeypatch):
    from controller.generators import loading
    from controller.generators.loading import Weights

    class Pipeline:
        asked: list = []

        def enable_model_cpu_offload(self, device):
            self.asked.append(("model", device))

        def enable_sequential_cpu_offload(self, device):
            self.asked.append(("sequential", device))

        def to(self, device):
            self.asked.append(("to", device))

    for device, how in [("cuda:1", "model"), ("cuda:1", "sequential"), ("cuda:1", "none"), ("cpu", "model")]:
        loading._place(Pipeline(), Weights(device=device, offload=how))
    assert Pipeline.asked == [("model", "cuda:1"), ("sequential", "cuda:1"), ("to", "cuda:1"), ("to", "cpu")]


class Movable:
    """Stands for a pipeline; writes down what is asked of it."""

    def __init__(self):
        self.asked = []
        self.vae = self

    def enable_model_cpu_offload(self, device):
        self.asked.append("model")

    def enable_sequential_cpu_offload(self, device):
        self.asked.append("sequential")

    def enable_tiling(self):
        self.asked.append("tiles")


def test_what_a_shortage_taught_outlives_the_stay_in_memory(tmp_path, monkeypatch):
    from controller.generators import loading
    from controller.generators.loading import Loan, Weights
    from controller.generators.shelf import Shelf

    loaded = []
    monkeypatch.setattr(loading, "load_pipeline", lambda folder, weights: loaded.append(weights) or Movable())
    shelf, weights = Shelf(), Weights(device="cuda")
    loan, other = (Loan(tmp_path, weights, shelf) for _ in range(2))
    assert loan().asked == [] and loan.offload("model") and loan.tile()
    assert loan().asked == ["model", "tiles"] and loaded == [weights]
    assert not other.offload("model") and not other.tile()  # the same weights
    assert other.offload("sequential") and not loan.offload("model")
    shelf.put_away_others(None)
    loan()
    assert loaded[1] == Weights(device="cuda", offload="sequential", vae_tiling=True)
    assert loan.key == other.key and loan.weights == weights


def test_on_a_cpu_there_is_nowhere_to_move_weights_to(tmp_path, monkeypatch):
    from controller.generators import loading
    from controller.generators.loading import Loan, Weights
    from controller.generators.shelf import Shelf

    monkeypatch.setattr(loading, "load_pipeline", lambda folder, weights: Movable())
    loan = Loan(tmp_path, Weights(), Shelf())
    assert not loan.offload("model") and not loan.offload("sequential") and loan().asked == []


def test_a_view_moves_its_models_back_after_work_as_its_pipeline_does(folder):
    from controller.generators.diffusers_inpainting import DiffusersInpainter

    generator = load(folder)
    shared = DiffusersInpainter.share(generator)
    assert not getattr(shared.pipeline, "_all_hooks", None)
    generator.pipeline.enable_model_cpu_offload(device="cpu")  # in place of a GPU
    view = shared.pipeline
    hooks = view._all_hooks
    assert hooks and view is not generator.pipeline
    mask = np.ones((32, 32), bool)
    shared.inpaint([InpaintRequest(np.zeros((32, 32, 3), np.uint8), mask, "a cone", 1)])
    # diffusers moves the models by hooks made anew after each call; a view without any moves none.
    assert view._all_hooks and view._all_hooks is not hooks
    assert len(generator.generate(REQUEST)) == 1


def test_arguments_that_a_pipeline_does_not_take_are_said(folder, caplog):
    made = load(folder, max_sequence_length=77)
    assert "takes no max_sequence_length" in caplog.text
    assert "max_sequence_length" not in made.describe() and len(made.generate(REQUEST)) == 1


def test_a_negative_prompt_that_is_not_taken_is_said(tmp_path, caplog):
    from tiny_families import save_family

    from controller.generators.diffusers_inpainting import DiffusersInpainter

    made = DiffusersInpainter.load(save_family("flux-fill", tmp_path / "fill"), steps=1)
    mask = np.zeros((32, 32), bool)
    mask[8:16, 8:16] = True
    made.inpaint([InpaintRequest(np.zeros((32, 32, 3), np.uint8), mask, "a cone", 1, "blue")])
    assert "takes no negative prompt" in caplog.text


def test_the_largest_text_encoder_counts_and_smaller_ones_are_a_remark(tmp_path, caplog):
    from tiny_families import save_family

    made = load(save_family("flux", tmp_path / "flux"), width=32, height=32, max_sequence_length=100)
    words = "cone " * 10
    assert made.fits(words) and not made.fits("cone " * 60)
    with caplog.at_level(logging.INFO, logger="controller"):
        made.generate([GenerationRequest("cone " * 18, 1)])
    assert [record.levelname for record in caplog.records] == ["INFO"] and "reads 16 of" in caplog.text
    made.generate([GenerationRequest("cone " * 60, 1)])
    assert "flux reads 100" in caplog.text


def test_defaults_of_a_folder_may_set_a_size(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "legion_defaults.json").write_text('{"width": 32, "height": 48, "num_inference_steps": 1}')
    assert load(copy).generate(REQUEST)[0].shape == (48, 32, 3)


def test_names_on_the_hub_are_told_from_paths():
    assert hub_name("org/name") == HubName("org/name")
    assert hub_name("org/name@v1.0") == HubName("org/name", "v1.0")
    assert all(
        hub_name(path) is None for path in ("name", "/org/name", "./org/name", "a/b/c", "../name", "~/name")
    )
    assert how_to_get("org/name@main", "fp16").startswith("hf download org/name --revision main --include")
    assert '"*/*.fp16*.safetensors"' in how_to_get("org/name", "fp16")


def test_the_hubs_cache_is_used_without_a_network_and_half_a_download_is_none(folder, tmp_path, monkeypatch):
    import huggingface_hub

    from controller.generators import hub
    from controller.generators.lending import name_of

    copy = shutil.copytree(folder, tmp_path / "snapshot")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **options: str(copy))
    assert hub.present("org/name") == copy and hub.locate("org/name") == copy
    assert load("org/name").name == name_of("org/name") == "name"
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert hub.present("org/name") is None


def test_a_digest_is_read_off_the_hubs_own_names(folder, tmp_path):
    import hashlib

    copy, blobs = shutil.copytree(folder, tmp_path / "snapshot"), tmp_path / "blobs"
    blobs.mkdir()
    for file in copy.rglob("*.safetensors"):
        blob = blobs / hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.move(file, blob)
        file.symlink_to(blob)
    assert weights_digest(copy) == weights_digest(folder)
    blob.write_bytes(b"other")  # not read: its name says what it holds
    assert weights_digest(copy) == weights_digest(folder)

"""The commands that get weights, given to the hub's own client: which files of a repository do they fetch?"""

from __future__ import annotations

import shlex
import warnings

import pytest

from controller.checkpoints import how_to_get
from flows.health.weights import GET

SETTINGS = [
    "model_index.json",
    "scheduler/scheduler_config.json",
    "tokenizer/vocab.json",
    "tokenizer/merges.txt",
]
SDXL = [
    "sd_xl_base_1.0.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/flax_model.msgpack",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae_1_0/diffusion_pytorch_model.safetensors",
    "vae_1_0/diffusion_pytorch_model.fp16.safetensors",
    "vae_decoder/model.onnx",
]
SD35 = [
    "sd3.5_medium.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder_3/model.safetensors.index.json",
    "text_encoder_3/model-00001-of-00002.safetensors",
    "text_encoder_3/model-00002-of-00002.safetensors",
    "text_encoder_3/model.fp16-00001-of-00002.safetensors",
    "text_encoder_3/model.fp16-00002-of-00002.safetensors",
    "text_encoders/t5xxl_fp16.safetensors",
    "tokenizer_3/spiece.model",
    "transformer/diffusion_pytorch_model.safetensors",
]
SD15 = [
    "v1-5-pruned-emaonly.safetensors",
    "safety_checker/model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
]
PICKSCORE = [
    "config.json",
    "merges.txt",
    "model.safetensors",
    "preprocessor_config.json",
    "pytorch_model.bin",
]


@pytest.fixture
def fetched(monkeypatch):
    """What a command would fetch of a repository with these files."""
    from huggingface_hub.cli import download
    from huggingface_hub.cli.hf import main
    from huggingface_hub.utils import filter_repo_objects

    asked = {}
    monkeypatch.setattr(download, "snapshot_download", lambda **options: asked.update(options) or "here")

    def fetch(command, files):
        monkeypatch.setattr("sys.argv", shlex.split(command))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it warns of patterns that it does not follow
            try:
                main()
            except SystemExit as end:
                assert not end.code
        patterns = {name: asked[name] for name in ("allow_patterns", "ignore_patterns")}
        return set(filter_repo_objects(files, **patterns)), asked

    return fetch


@pytest.mark.parametrize(
    ("files", "variant", "weights"),
    [
        (SDXL, "fp16", {"text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"}),
        (SDXL, "", {"text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model"}),
        (SD15, "fp16", {"safety_checker/model", "unet/diffusion_pytorch_model"}),
        (SD15, "", {"unet/diffusion_pytorch_model"}),
    ],
)
def test_each_models_weights_are_fetched_once(fetched, files, variant, weights):
    found, _ = fetched(how_to_get("org/name", variant), [*SETTINGS, *files])
    assert set(SETTINGS) <= found
    ending = f".{variant}.safetensors" if variant else ".safetensors"
    assert {name for name in found if not name.endswith((".json", ".txt"))} == {
        name + ending for name in weights
    }


def test_of_sharded_weights_all_shards_of_one_precision_are_fetched(fetched):
    plain, _ = fetched(how_to_get("org/name"), SD35)
    half, asked = fetched(how_to_get("org/name@main", "fp16"), SD35)
    shards = {f"text_encoder_3/model{{}}-0000{n}-of-00002.safetensors" for n in (1, 2)}
    assert {name.format("") for name in shards} <= plain and {name.format(".fp16") for name in shards} <= half
    for found in (plain, half):
        assert not any(name.startswith(("text_encoders/", "sd3.5")) for name in found)
        assert "tokenizer_3/spiece.model" in found
    assert not any("fp16" in name for name in plain) and asked["revision"] == "main"
    assert "transformer/diffusion_pytorch_model.safetensors" in plain


def test_a_scorers_weights_are_fetched_once(fetched):
    (command,) = GET["models/pickscore"]
    found, asked = fetched(command, PICKSCORE)
    assert found == set(PICKSCORE) - {"pytorch_model.bin"} and asked["local_dir"] == "models/pickscore"

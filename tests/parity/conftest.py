"""Where the parity numbers are read from, and the tiny network they belong to.

The numbers were made by running the original code (see fixtures/README.md). `LEGION_FIXTURES` names another
folder of the same layout, so what a test needs to know of a file it reads off that file.
"""

import json
import re

import pytest
from safetensors.torch import load_file
from upstream_fixtures import FIXTURES

from defender.config import (
    LanguageConfig,
    LegionConfig,
    LossWeights,
    SamConfig,
    TokenIds,
    VisionConfig,
)
from defender.model import Legion

TOLERANCE = 1e-4


@pytest.fixture(scope="session")
def folder():
    return FIXTURES


@pytest.fixture(scope="session")
def numbers(folder):
    """Tensors of one fixture file, by its name."""
    return lambda name: load_file(folder / f"{name}.safetensors")


@pytest.fixture(scope="session")
def tiny_config(folder):
    values = json.loads((folder / "legion_tiny_config.json").read_text())
    llama, clip, sam, ids = values["llama"], values["clip"], values["sam"], values["token_ids"]
    weights = values["loss_weights"]
    return LegionConfig(
        vision=VisionConfig(
            clip["hidden_size"],
            clip["intermediate_size"],
            clip["num_hidden_layers"],
            clip["num_attention_heads"],
            clip["image_size"],
            clip["patch_size"],
            clip["hidden_act"],
            clip["layer_norm_eps"],
            llama["mm_vision_select_layer"],
        ),
        language=LanguageConfig(
            llama["vocab_size"],
            llama["hidden_size"],
            llama["intermediate_size"],
            llama["num_hidden_layers"],
            llama["num_attention_heads"],
            llama["num_attention_heads"],
            llama["max_position_embeddings"],
            llama["rms_norm_eps"],
        ),
        sam=SamConfig(
            image_size=sam["img_size"],
            resize_to=sam["img_size"],
            patch_size=sam["patch"],
            embed_dim=sam["embed_dim"],
            depth=sam["depth"],
            num_heads=sam["heads"],
            window_size=sam["window"],
            global_attn_indexes=tuple(sam["global_idx"]),
            out_dim=sam["out"],
            decoder_heads=sam["dec_heads"],
            decoder_mlp_dim=sam["mlp_dim"],
            mask_in_chans=sam["mask_in_chans"],
        ),
        tokens=TokenIds(
            llama["pad_token_id"],
            llama["bos_token_id"],
            llama["eos_token_id"],
            ids["im_start"],
            ids["im_end"],
            ids["bbox"],
            ids["point"],
            ids["seg"],
            ids["p"],
            ids["ep"],
        ),
        loss=LossWeights(weights["ce"], weights["bce"], weights["dice"]),
        detection_hidden_size=2 * clip["hidden_size"],
    )


@pytest.fixture(scope="session")
def sizes():
    """Heights and widths that a tensor's name tells: `masks_1024x683_to_61x41` -> ((1024, 683), (61, 41))."""

    def read(name):
        return tuple((int(a), int(b)) for a, b in re.findall(r"(\d+)x(\d+)", name))

    return read


@pytest.fixture
def tiny(tiny_config, numbers):
    """The tiny network with the fixture's weights, buffers upstream also stored left out."""
    weights = {
        name: value
        for name, value in numbers("legion_tiny_weights").items()
        if not name.endswith(("rotary_emb.inv_freq", "embeddings.position_ids"))
    }
    model = Legion(tiny_config)
    model.load_state_dict(weights, strict=True)
    return model.eval()


@pytest.fixture(scope="session")
def close():
    """Assert that two tensors differ by no more than the tolerance anywhere."""

    def check(ours, theirs, tolerance=TOLERANCE):
        assert ours.shape == theirs.shape, (tuple(ours.shape), tuple(theirs.shape))
        difference = (ours.detach().double() - theirs.double()).abs().max().item() if theirs.numel() else 0.0
        assert difference <= tolerance, f"max abs difference {difference:.2e}"

    return check

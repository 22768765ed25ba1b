"""ImageReward from its own tensors: every stage against numbers from the original package."""

import json

import pytest
import torch

pytestmark = pytest.mark.slow


@pytest.fixture
def network(numbers, folder):
    from controller.scorers.imagereward import build

    known = numbers("imagereward_tiny")
    shape = json.loads((folder / "imagereward_tiny.json").read_text())
    bert = shape["bert"]
    values = {
        "hidden_size": bert["hidden_size"],
        "num_hidden_layers": bert["layers"],
        "num_attention_heads": bert["heads"],
        "intermediate_size": bert["intermediate"],
        "vocab_size": bert["vocab_size"],
        "max_position_embeddings": bert["max_pos"],
        "layer_norm_eps": bert["ln_eps"],
        "hidden_act": bert["act"],
    }
    weights = {k.removeprefix("weights."): v for k, v in known.items() if k.startswith("weights.")}
    return build(weights, values, shape["vit"]["num_heads"], what="fixture")


def test_every_stage_equals_imagereward(numbers, network, folder, close):
    from controller.scorers.imagereward import MEAN, STD

    known = numbers("imagereward_tiny")
    shape = json.loads((folder / "imagereward_tiny.json").read_text())
    assert (shape["mean"], shape["std"]) == (MEAN, STD)
    ids, mask = known["input_ids"], known["attention_mask"]
    assert mask.min() == 0  # one of the prompts is padded: a mask that is ignored would show
    with torch.inference_mode():
        seen = network.vision(pixel_values=known["image"]).last_hidden_state
        read = network.text(
            input_ids=ids, attention_mask=mask, encoder_hidden_states=seen, is_decoder=False
        ).last_hidden_state
        raw = network(known["image"], ids, mask)
    close(seen, known["image_embeds"], 1e-5)
    close(read, known["text_hidden"], 1e-5)
    close(raw, known["mlp_raw"][:, 0], 1e-5)
    close((raw - MEAN) / STD, known["reward"][:, 0], 1e-5)

"""HPSv2 through ClipScorer: preprocessing and scores against numbers from the original package."""

import json

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from controller.scorers.clip import ClipScorer, Preprocessing

OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
PLAIN = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}


def as_transformers(weights):
    """open_clip's tensor names, as HPSv2 ships them, to those of CLIPModel."""
    result = {}
    for name, tensor in weights.items():
        if name in PLAIN:
            result[PLAIN[name]] = tensor
        elif name in TRANSPOSED:
            result[TRANSPOSED[name]] = tensor.T.contiguous()
        else:
            tower = "vision_model" if name.startswith("visual.") else "text_model"
            layer, part = name.split("resblocks.")[1].split(".", 1)
            layer_name = f"{tower}.encoder.layers.{layer}"
            if part.startswith("attn.in_proj_"):
                kind = part.removeprefix("attn.in_proj_")
                for letter, piece in zip("qkv", tensor.chunk(3), strict=True):
                    result[f"{layer_name}.self_attn.{letter}_proj.{kind}"] = piece.contiguous()
            else:
                stem, kind = part.rsplit(".", 1)
                result[f"{layer_name}.{BLOCK[stem]}.{kind}"] = tensor
    return result


class GivenIds:
    """Stands in for the tokenizer: the prompts are numbers of rows."""

    eos_token_id = None

    def __init__(self, ids):
        self.ids = ids

    def __call__(self, texts, **_):
        return {"input_ids": self.ids[[int(text) for text in texts]]}


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", ["small", "square", "tall", "wide"])
def test_preprocessing_equals_hpsv2(numbers, name, antialias):
    known = numbers("hps_preprocess")
    image = known[f"u8.{name}"].numpy()
    made = Preprocessing(224, "longest", antialias, OPENAI_MEAN, OPENAI_STD)([image])[0]
    stem = "hps224" if antialias else "hps224_noantialias"
    assert made.shape == (3, 224, 224)
    np.testing.assert_allclose(made[:, ::4, ::4].numpy(), known[f"{stem}.{name}.sub4"].numpy(), atol=2e-5)
    assert float(made.double().sum()) == pytest.approx(float(known[f"{stem}.{name}.sum"]), rel=1e-4, abs=0.5)


@pytest.mark.slow
def test_scores_equal_hpsv2(numbers, folder):
    known = numbers("hps_tiny_openclip")
    shape = json.loads((folder / "hps_tiny_openclip.json").read_text())
    vision, text = shape["vision_cfg"], shape["text_cfg"]
    config = CLIPConfig(
        projection_dim=shape["embed_dim"],
        vision_config={
            "hidden_size": vision["width"],
            "intermediate_size": 4 * vision["width"],
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "hidden_act": "gelu",
        },
        text_config={
            "hidden_size": text["width"],
            "intermediate_size": 4 * text["width"],
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "vocab_size": text["vocab_size"],
            "max_position_embeddings": text["context_length"],
            "hidden_act": "gelu",
            "eos_token_id": 2,
        },
    )
    model = CLIPModel(config)
    weights = {k.removeprefix("weights."): v for k, v in known.items() if k.startswith("weights.")}
    model.load_state_dict(as_transformers(weights))
    prepared = Preprocessing(56, "longest", True, OPENAI_MEAN, OPENAI_STD)
    scorer = ClipScorer("hps", model, GivenIds(known["text_ids"].long()), prepared, "1")
    scorer._prepare = lambda images: torch.stack(list(images))  # the fixture's pictures are prepared already
    scores = scorer.score(list(known["image"]), ["0", "1", "2"])
    np.testing.assert_allclose([s.value for s in scores], known["hps_score"].numpy(), atol=2e-6)

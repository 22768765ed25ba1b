"""HPSv2 from its own file: preprocessing, tokens, features and scores against numbers from the original
package."""

import json

import numpy as np
import pytest
import torch

from controller.scorers.preprocessing import Preprocessing

NAMES = ["small", "square", "tall", "wide"]


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_preprocessing_equals_hpsv2(numbers, name, antialias):
    known = numbers("hps_preprocess")
    made = Preprocessing(224, "longest", antialias)([known[f"u8.{name}"].numpy()])[0]
    stem = "hps224" if antialias else "hps224_noantialias"
    assert made.shape == (3, 224, 224)
    np.testing.assert_allclose(made[:, ::4, ::4].numpy(), known[f"{stem}.{name}.sub4"].numpy(), atol=2e-5)
    assert float(made.double().sum()) == pytest.approx(float(known[f"{stem}.{name}.sum"]), rel=1e-4, abs=0.5)


@pytest.mark.slow
def test_tokens_equal_hpsv2(numbers, folder):
    from controller.scorers.clip_text import clean, openai_tokenizer
    from controller.scorers.scoring import within

    prompts = json.loads((folder / "hps_prompts.json").read_text())
    known = numbers("hps_preprocess")["token_ids"]
    tokenizer = openai_tokenizer()
    assert len(tokenizer) == 49408
    for prompt, row in zip(prompts, known.tolist(), strict=True):
        tokens = within(tokenizer(clean(prompt))["input_ids"], 77, "hps", prompt)
        assert tokens + [0] * (77 - len(tokens)) == row


class GivenIds:
    """Stands in for the tokenizer: the prompts are numbers of rows."""

    def __init__(self, ids):
        self.rows = [row[: int(row.argmax()) + 1].tolist() for row in ids]

    def __call__(self, prompt):
        return self.rows[int(prompt)]


@pytest.fixture
def scorer(numbers, folder):
    """The fixture's weights through the code that reads the published file."""
    from transformers import CLIPModel

    from controller.scorers.cosine import CosineScorer, Formula
    from controller.scorers.hpsv2 import clip_config, source
    from controller.scorers.tensors import fill

    known = numbers("hps_tiny_openclip")
    shape = json.loads((folder / "hps_tiny_openclip.json").read_text())
    weights = {k.removeprefix("weights."): v for k, v in known.items() if k.startswith("weights.")}
    end = int(known["text_ids"].max())
    config = clip_config(shape, 2)  # the highest token, as the fixture's random tokens are read
    model = fill(
        lambda: CLIPModel(config),
        source,
        weights,
        dtype=torch.float32,
        device=torch.device("cpu"),
        what="fixture",
    )
    assert end < shape["text_cfg"]["vocab_size"]
    made = CosineScorer(
        "hpsv2",
        "hps",
        model,
        GivenIds(known["text_ids"]),
        Preprocessing(56, "longest"),
        Formula(),
        release="",
        weights="",
    )
    made._prepare = lambda images: torch.stack(list(images))  # the fixture's pictures are prepared already
    return made


@pytest.mark.slow
def test_scores_equal_hpsv2(numbers, scorer):
    known = numbers("hps_tiny_openclip")
    scores = scorer.score(list(known["image"]), ["0", "1", "2"])
    np.testing.assert_allclose([s.value for s in scores], known["hps_score"].numpy(), atol=2e-6)


@pytest.mark.slow
def test_features_equal_hpsv2(numbers, scorer, close):
    from torch.nn import functional as F

    known = numbers("hps_tiny_openclip")
    with torch.inference_mode():
        texts = torch.stack([scorer._text(prompt) for prompt in "012"])
        pooled = scorer._model.vision_model(pixel_values=known["image"]).pooler_output
        pictures = F.normalize(scorer._model.visual_projection(pooled), dim=-1)
    close(texts, known["text_features"], 1e-5)
    close(pictures, known["image_features"], 1e-5)
    assert float(scorer._model.logit_scale.exp()) == pytest.approx(float(known["logit_scale_exp"]), rel=1e-5)

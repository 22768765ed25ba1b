"""A tiny defender with random weights: every part is real, nothing is trained."""

import numpy as np
import pytest
import torch

from contracts.records import Finding
from defender.answers import CLEAN_ANSWER, OPENING, compose
from defender.config import LanguageConfig, LegionConfig, SamConfig, VisionConfig
from defender.datasets import Collator, Sample
from defender.model import Legion
from defender.text import Dialog, Tokenizer, render_prompt, train_tokenizer

PHRASES = ("the red cone", "the shadow of the ball")
REASONS = ("floats in the air", "falls toward the light")


def finding(at, phrase=0, size=32):
    mask = np.zeros((size, size), dtype=bool)
    mask[at : at + 8, at : at + 8] = True
    return Finding(mask, PHRASES[phrase], REASONS[phrase], "physics", 1.0)


@pytest.fixture(scope="session")
def dialog(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    texts = [compose([finding(0), finding(8, 1)]), OPENING, CLEAN_ANSWER, render_prompt("", "Look.")]
    tokens = train_tokenizer(texts, path, 420)
    config = LegionConfig(
        vision=VisionConfig(16, 32, 3, 2, image_size=32, patch_size=8),
        language=LanguageConfig(tokens.im_start + 7, 32, 64, 2, 2, 2, 256),
        sam=SamConfig(32, 32, 4, 16, 2, 2, 2.0, 4, (1,), 16, decoder_heads=2, decoder_mlp_dim=32),
        tokens=tokens,
        detection_hidden_size=16,
        max_new_tokens=12,
        max_text_tokens=128,
        system="",
        instruction="Look.",
    )
    return Dialog(config, Tokenizer.load(path, tokens))


@pytest.fixture
def model(dialog):
    torch.manual_seed(0)
    return Legion(dialog.config).eval()


@pytest.fixture
def collate(dialog):
    return Collator(dialog.config, dialog, first_token_weight=3.0)


@pytest.fixture
def samples():
    """Sixteen pictures, flawed and clean by turns, half of them generated."""
    rng = np.random.default_rng(0)
    return [
        Sample(
            rng.integers(0, 255, (32, 32, 3), dtype=np.uint8),
            (finding(i % 20), finding((i + 7) % 20, 1))[: 1 + i % 4 // 2] if i % 2 else (),
            i % 4 < 2,
            (i % 3,),
        )
        for i in range(16)
    ]

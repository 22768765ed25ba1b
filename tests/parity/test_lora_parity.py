"""Low-rank adapters of a raw stage-1 checkpoint merge into the numbers that peft gave."""

import pytest
import torch

from defender.importing import merge_adapters, tidy
from defender.tensor_files import Stored

pytestmark = pytest.mark.slow

ALPHA = 16
"""Of the original's training code, which is what the file was made with; no file says so."""


def stored(weights):
    return {n: Stored(tuple(v.shape), v.dtype, "memory", lambda v=v: v) for n, v in weights.items()}


@pytest.mark.parametrize("prefix", ["base_model.model.", ""])
def test_adapters_merge_to_pefts_weights_and_logits(tiny, numbers, close, prefix):
    data = numbers("lora_tiny")
    adapters = {n.removeprefix("base_model.model."): v for n, v in data.items() if ".lora_" in n}
    raw = {prefix + n: v for n, v in {**tiny.state_dict(), **adapters}.items()}
    kept, ignored = tidy(stored(raw))
    merged, count = merge_adapters(kept, alpha=ALPHA)
    assert (count, ignored) == (sum(n.startswith("merged.") for n in data), 0)
    weights = {n: s.read() for n, s in merged.items()}
    for name in (n for n in data if n.startswith("merged.")):
        close(weights[name.removeprefix("merged.")], data[name], 1e-6)
    tiny.load_state_dict(weights, strict=True)
    ids = data["input_ids"]
    with torch.no_grad():
        hidden = tiny.model(inputs_embeds=tiny.model.embed_tokens(ids), use_cache=False).last_hidden_state
        logits = tiny.lm_head(hidden)
    close(logits, data["logits_lora"])
    close(logits, data["logits_merged"])

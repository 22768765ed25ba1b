"""Low-rank adapters: where they go, that they fold away exactly, and what happens without peft."""

import sys
from dataclasses import replace

import pytest
import torch

from contracts.errors import CheckpointError, InvalidInput
from defender.config import LoraSettings
from defender.model import Legion
from defender.training.adapters import add_adapters, choose_trainable, fold
from defender.training.engine import save_memory
from defender.training.schedule import Schedule
from defender.training.stages import train_stage1

pytestmark = pytest.mark.slow


def adapted(dialog, settings=None):
    torch.manual_seed(5)
    model = Legion(dialog.config)
    add_adapters(model, settings or LoraSettings(), seed=1)
    choose_trainable(model, "paper")
    return model


def test_adapters_sit_on_the_language_models_queries_and_values_alone(dialog):
    model = adapted(dialog)
    modules = {n.split(".lora_")[0] for n, _ in model.named_parameters() if ".lora_" in n}
    layers = range(dialog.config.language.num_hidden_layers)
    assert modules == {f"model.layers.{i}.self_attn.{name}" for i in layers for name in ("q_proj", "v_proj")}
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert {n for n in trained if "layers" in n and "mask_decoder" not in n} == {
        f"{module}.lora_{side}.default.weight" for module in modules for side in "AB"
    }


def test_fold_computes_what_the_adapters_compute(dialog, collate, samples):
    settings = LoraSettings(r=4, alpha=12, dropout=0.0)
    model = adapted(dialog, settings).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.3)
    plain = Legion(dialog.config).eval()
    before = plain.state_dict().keys()
    plain.load_state_dict(fold(model.state_dict(), settings))
    assert plain.state_dict().keys() == before
    batch = collate(samples[:4])
    with torch.no_grad():
        ours, theirs = plain(batch.inputs).hidden_BLD, model(batch.inputs).hidden_BLD
    assert torch.allclose(ours, theirs, atol=1e-4)
    torch.manual_seed(5)
    untouched = Legion(dialog.config).eval()
    with torch.no_grad():
        assert (untouched(batch.inputs).hidden_BLD - ours).abs().max() > 0.05


def test_the_papers_set_is_all_that_moves(dialog, collate, samples, tmp_path):
    model = adapted(dialog)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    schedule = Schedule(steps=3, batch_size=8, warmup=0)
    train_stage1(model, samples, collate, schedule, tmp_path, trainable="paper", mask_boost=1.0)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert any(".lora_A." in n for n in moved) and any(".lora_B." in n for n in moved)
    parts = ("lm_head", "embed_tokens", "mask_decoder", "text_hidden_fcs", "lora_")
    assert all(any(part in n for part in parts) for n in moved)
    assert all(any(part in n for n in moved) for part in parts)


def test_frozen_weights_in_half_the_memory(dialog, collate, samples, tmp_path):
    model = adapted(dialog)
    schedule = Schedule(steps=2, batch_size=8, warmup=0)
    frozen = {"trainable": "paper", "mask_boost": 1.0, "frozen_dtype": torch.bfloat16}
    assert train_stage1(model, samples, collate, schedule, tmp_path, **frozen).finished
    for name, parameter in model.named_parameters():
        half = not parameter.requires_grad and not name.startswith("prediction_head")
        assert parameter.dtype == (torch.bfloat16 if half else torch.float32), name


def test_without_peft(dialog, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InvalidInput, match=r"pip install 'legion-studio\[peft\]'"):
        add_adapters(Legion(dialog.config), LoraSettings())


def test_targets_that_do_not_exist(dialog):
    with pytest.raises(InvalidInput, match="qq names no layer.*q_proj"):
        add_adapters(Legion(dialog.config), LoraSettings(targets=("qq",)))


@pytest.mark.parametrize("trainable", ["all", "paper"])
def test_checkpointing_keeps_the_gradients_and_fewer_activations(dialog, collate, samples, trainable):
    batch = collate(samples[:4])
    gradients, kept = [], []
    for saving in (False, True):
        torch.manual_seed(5)
        model = Legion(dialog.config).train()
        choose_trainable(model, trainable)
        if saving:
            save_memory(model)
        stored = 0

        def count(tensor):
            nonlocal stored
            stored += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = model.loss(batch.inputs, batch.targets).loss
        loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        kept.append(stored)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][name], atol=1e-5), name
    assert kept[1] < (0.7 if trainable == "all" else 0.95) * kept[0]


def test_a_resume_with_another_alpha_is_refused(dialog, collate, samples, tmp_path):
    schedule = Schedule(steps=2, batch_size=8, pause_after=0.0)
    model = adapted(dialog)
    train_stage1(model, samples, collate, schedule, tmp_path, trainable="paper")
    model.config = replace(model.config, lora=LoraSettings(alpha=8))
    with pytest.raises(CheckpointError, match="lora was .*'alpha': 16.* and is .*'alpha': 8"):
        train_stage1(model, samples, collate, schedule, tmp_path, trainable="paper")

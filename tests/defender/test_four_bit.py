"""Four-bit loading, with a stand-in for bitsandbytes that rounds to sixteen levels as the real one does."""

import sys
import types
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from contracts.errors import InvalidInput
from defender import checkpoint
from defender.config import LanguageConfig
from defender.four_bit import packable
from defender.legion_defender import LegionDefender
from defender.model import Legion

pytestmark = pytest.mark.slow


class Params4bit(nn.Parameter):
    def __new__(cls, data, requires_grad, quant_type, compress_statistics):
        assert quant_type == "nf4" and compress_statistics
        scale = data.abs().max().clamp(min=1e-9) / 7
        packed = torch.Tensor._make_subclass(
            cls, ((data / scale).round() * scale).contiguous(), requires_grad
        )
        return packed


class Linear4bit(nn.Linear):
    def __init__(self, inputs, outputs, bias, compute_dtype, compress_statistics, quant_type, device):
        assert not bias and device == "meta"
        super().__init__(inputs, outputs, bias=False, device=device)
        self.compute_dtype = compute_dtype


@pytest.fixture
def bitsandbytes(monkeypatch):
    module = types.ModuleType("bitsandbytes")
    module.nn = types.SimpleNamespace(Linear4bit=Linear4bit, Params4bit=Params4bit)
    monkeypatch.setitem(sys.modules, "bitsandbytes", module)
    return module


@pytest.fixture
def folder(tmp_path, dialog):
    """A network whose LLaMA has rows of 64, apart from one that is no multiple of it."""
    config = replace(
        dialog.config, language=LanguageConfig(dialog.config.language.vocab_size, 64, 96, 2, 2, 2, 256)
    )
    torch.manual_seed(0)
    checkpoint.save(tmp_path, Legion(config), dialog.tokenizer, dtype=torch.float32)
    return tmp_path


def test_only_whole_rows_of_the_llama_are_packed(folder, bitsandbytes):
    packed = checkpoint.load(folder, four_bit=True).model
    whole = checkpoint.load(folder).model
    names = {name for name, layer in packed.named_modules() if isinstance(layer, Linear4bit)}
    assert names == {name for name, _ in packable(whole)}
    parts = ("q_proj", "k_proj", "v_proj", "o_proj")
    kept = {"gate_proj", "up_proj"}
    assert {name.split(".")[-1] for name in names} == {*parts, *kept}  # down_proj has rows of 96
    assert all(name.startswith("model.layers.") for name in names) and len(names) == 12
    ours, theirs = packed.state_dict(), whole.state_dict()
    for name, value in theirs.items():
        same = torch.equal(ours[name], value)
        assert same != (name.removesuffix(".weight") in names), name
        assert not ours[name].is_meta


def test_a_packed_defender_diagnoses(folder, bitsandbytes):
    images = [np.full((40, 30, 3), 90, np.uint8)]
    (diagnosis,) = LegionDefender.load(folder, four_bit=True).diagnose(images)
    assert isinstance(diagnosis.answer, str)


def test_without_the_package_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InvalidInput, match=r"pip install 'legion-studio\[4bit\]'"):
        checkpoint.load(folder, four_bit=True)


def test_a_device_it_cannot_work_on_is_one_line(folder, bitsandbytes):
    def refuse(*args, **kwargs):
        raise RuntimeError("no kernel for this device\nand more")

    bitsandbytes.nn.Params4bit = refuse
    with pytest.raises(InvalidInput, match=r"^bitsandbytes cannot work on cpu \(no kernel for this device\)"):
        checkpoint.load(folder, four_bit=True)


@pytest.mark.parametrize(("name", "told"), [("gpu", "unknown"), ("cuda:99", "not there")])
def test_devices_that_are_not_there(folder, name, told):
    with pytest.raises(InvalidInput, match=told):
        checkpoint.load(folder, device=name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_diagnoses_as_well(folder, dtype):
    images = [np.full((40, 30, 3), 90, np.uint8), np.full((5, 300, 3), 200, np.uint8)]
    defender = LegionDefender.load(folder, dtype=dtype)
    assert defender.describe()["dtype"] == dtype
    for image, diagnosis in zip(images, defender.diagnose(images), strict=True):
        assert all(f.mask.shape == image.shape[:2] and 0 <= f.confidence <= 1 for f in diagnosis.findings)

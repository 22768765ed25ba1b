"""Loading and converting hold the weights once, not twice, as the peak resident memory of processes shows.

Each process first does its work on a tiny checkpoint, so that the libraries and what they allocate on first
use are there, and notes its resident memory (VmRSS) as its baseline. Then it does the work on about 200 MB:
peak resident memory (VmHWM) less the baseline, over the size of the weights in the wanted type, must stay
within 1.3. Pages of a mapped file count, as they are resident too.
"""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
import torch

from defender import checkpoint, importing
from defender.config import LanguageConfig
from defender.model import Legion

pytestmark = pytest.mark.slow

MEASURE = """
import json, resource, sys
from pathlib import Path
import torch
from defender import checkpoint
from defender.importing import import_weights
from defender.tensor_files import open_file

def memory(kind):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(kind):
            return int(line.split()[1]) * 1024

small, large, dtype, work = sys.argv[1:]
dtype = getattr(torch, dtype)
def go(folder):
    loaded = checkpoint.load(Path(folder), dtype=dtype)
    for parameter in loaded.model.parameters():
        parameter.sum()  # touch every page
    return sum(p.numel() * p.element_size() for p in loaded.model.parameters())
if work == "write":
    from defender.tensor_files import write_safetensors
    def go(folder):
        weights = open_file(Path(folder) / "pytorch_model.bin")
        write_safetensors(Path(folder) / "written.safetensors", weights)
        return sum(s.bytes for s in weights.values())
if work == "use a released folder":
    from defender import importing
    def go(folder):
        loaded = importing.load(Path(folder), dtype=dtype, clip=Path(folder) / "clip")
        for parameter in loaded.model.parameters():
            parameter.sum()
        return sum(p.numel() * p.element_size() for p in loaded.model.parameters())
go(small)
before = memory("VmRSS:")
size = go(large)
print(json.dumps({"size": size, "growth": memory("VmHWM:") - before}))
"""


def measure(small, large, dtype="float32", work="load"):
    words = [sys.executable, "-c", MEASURE, str(small), str(large), dtype, work]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def wide(dialog):
    """A network of about 50 million numbers, most of them in a LLaMA of four layers."""
    language = LanguageConfig(dialog.config.language.vocab_size, 768, 3072, 5, 12, 12, 256)
    config = replace(dialog.config, language=language)
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Legion(config)
    return model.to_empty(device="cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, wide, dialog):
    """A tiny and a large checkpoint, in fp32 and in bf16."""
    made = {}
    tiny = Legion(dialog.config)
    for name, model in (("small", tiny), ("large", wide)):
        for dtype in (torch.float32, torch.bfloat16):
            folder = tmp_path_factory.mktemp(name)
            checkpoint.save(folder, model, dialog.tokenizer, dtype=dtype)
            made[name, dtype] = folder
    return made


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_loading_takes_the_weights_once(folders, stored, wanted):
    found = measure(folders["small", stored], folders["large", stored], wanted)
    assert found["size"] > (180e6 if wanted == "float32" else 90e6)
    ratio = found["growth"] / found["size"]
    assert 0.5 < ratio <= 1.3, found


def release(folder, model, dialog, dtype):
    """A folder as others release theirs, with everything in one pickle."""
    folder.mkdir()
    config = model.config
    tokens = {text: getattr(config.tokens, name) for text, name in importing.ADDED_TOKENS.items()}
    ids = {f"{name}_token_id": getattr(config.tokens, name) for name in ("pad", "bos", "eos")}
    (folder / "config.json").write_text(json.dumps(asdict(config.language) | ids))
    (folder / "added_tokens.json").write_text(json.dumps(tokens))
    (folder / "tokenizer.model").write_bytes(dialog.tokenizer.model)
    (folder / "clip").mkdir()
    (folder / "clip" / "config.json").write_text(json.dumps(asdict(config.vision)))
    weights = {name: value.to(dtype) for name, value in model.state_dict().items()}
    torch.save(weights, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_a_released_folder_takes_the_weights_once(tmp_path, wide, dialog, stored, wanted):
    small = release(tmp_path / "small", Legion(dialog.config), dialog, stored)
    large = release(tmp_path / "large", wide, dialog, stored)
    found = measure(small, large, wanted, "use a released folder")
    assert found["size"] > (180e6 if wanted == "float32" else 90e6)
    assert 0.5 < found["growth"] / found["size"] <= 1.3, found


def test_converting_a_pickle_takes_it_once(tmp_path, wide):
    for name, weights in (("small", {"a": torch.ones(3)}), ("large", wide.state_dict())):
        (tmp_path / name).mkdir()
        torch.save(weights, tmp_path / name / "pytorch_model.bin")
    found = measure(tmp_path / "small", tmp_path / "large", work="write")
    assert found["size"] > 180e6
    assert found["growth"] / found["size"] <= 1.3, found

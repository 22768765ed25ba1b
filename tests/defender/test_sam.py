"""SAM's networks load with and without a working torchvision."""

import builtins
import sys

import pytest

from contracts.errors import ModelError
from defender import sam

pytestmark = pytest.mark.slow


def forget_segment_anything(monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] in ("segment_anything", sam._ALIAS)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, sam._ALIAS, raising=False)


def test_a_broken_torchvision_does_not_matter(monkeypatch):
    forget_segment_anything(monkeypatch)
    normal = builtins.__import__

    def broken(name, *args, **kwargs):
        if name.split(".")[0] == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return normal(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", broken)
    modeling = sam.load_modeling()
    assert modeling.__name__ == sam._ALIAS
    assert {"ImageEncoderViT", "PromptEncoder", "MaskDecoder", "TwoWayTransformer"} <= set(vars(modeling))
    assert "segment_anything" not in sys.modules


def test_a_missing_package_is_one_clear_line(monkeypatch):
    forget_segment_anything(monkeypatch)
    monkeypatch.setattr(sam.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    monkeypatch.setattr(sam.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="pip install segment-anything"):
        sam.load_modeling()

"""The parts of Segment Anything (arXiv 2304.02643), from the `segment-anything` package.

The package's top-level import pulls in torchvision, whose compiled operators do not load beside every build
of torch, for code that LEGION never calls. The networks themselves (`segment_anything.modeling`) need torch
alone, so where the normal import fails they are loaded by file, under a name of our own.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

from torch import nn

from contracts.errors import ModelError
from defender.config import SamConfig

_ALIAS = "defender._segment_anything_modeling"


def load_modeling() -> ModuleType:
    """`segment_anything.modeling`, with or without a working torchvision.

    Raises ModelError if the package is not installed.
    """
    try:
        return importlib.import_module("segment_anything.modeling")
    except (ImportError, OSError, RuntimeError):  # torchvision is missing, or its operators do not load
        for name in [n for n in sys.modules if n.split(".")[0] == "segment_anything"]:
            del sys.modules[name]  # a half-done import must not be found later
        return _load_by_file()


def _load_by_file() -> ModuleType:
    if _ALIAS in sys.modules:
        return sys.modules[_ALIAS]
    package = importlib.util.find_spec("segment_anything")
    if package is None or not package.submodule_search_locations:
        raise ModelError("segment-anything is not installed: run `pip install segment-anything==1.0`")
    folder = Path(next(iter(package.submodule_search_locations))) / "modeling"
    spec = importlib.util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_ALIAS] = module
    spec.loader.exec_module(module)
    return module


class GroundingEncoder(nn.Module):
    """SAM's three networks under LEGION's names: `image_encoder`, `prompt_encoder`, `mask_decoder`."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        modeling = load_modeling()
        grid = config.grid_size
        self.image_encoder = modeling.ImageEncoderViT(
            img_size=config.image_size,
            patch_size=config.patch_size,
            embed_dim=config.embed_dim,
            depth=config.depth,
            num_heads=config.num_heads,
            mlp_ratio=config.mlp_ratio,
            out_chans=config.out_dim,
            qkv_bias=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=config.window_size,
            global_attn_indexes=config.global_attn_indexes,
        )
        self.prompt_encoder = modeling.PromptEncoder(
            embed_dim=config.out_dim,
            image_embedding_size=(grid, grid),
            input_image_size=(config.image_size, config.image_size),
            mask_in_chans=config.mask_in_chans,
        )
        self.mask_decoder = modeling.MaskDecoder(
            transformer_dim=config.out_dim,
            transformer=modeling.TwoWayTransformer(
                depth=config.decoder_depth,
                embedding_dim=config.out_dim,
                num_heads=config.decoder_heads,
                mlp_dim=config.decoder_mlp_dim,
            ),
            iou_head_hidden_dim=config.out_dim,
        )

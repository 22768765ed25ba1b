"""Checkpoints by their names on the Hugging Face hub, where a path is expected.

`ORG/NAME` is a folder of weights, `ORG/NAME/FILE.pth` a single file; `@REVISION` may follow the name. A path
that exists always wins. What was downloaded before is taken from the hub's cache, without a network.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from contracts.errors import CheckpointError

_NAMED = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[\w./-]+))?")
_SETTINGS = ("config.json", "added_tokens.json", "adapter_config.json", "tokenizer.model")
_SAFE = ("model*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_PATIENCE = 10.0
"""Seconds to wait for the hub's first answer."""

_T = TypeVar("_T")


def locate(given: Path | str) -> Path:
    """The file or folder of that path, or the local copy of that name on the hub, downloaded if need be.

    Raises CheckpointError, in one line, if it is neither, or the hub does not have it or cannot be reached.
    """
    path = Path(given)
    if path.exists():
        return path
    named = _NAMED.fullmatch(str(given))
    if named is None:
        raise CheckpointError(f"cannot read {given} (no such file or folder)")
    repo, revision, file = named["repo"], named["revision"], named["file"]
    _quiet()
    from huggingface_hub import hf_hub_download, model_info, snapshot_download

    if file:
        return Path(_ask(given, lambda: hf_hub_download(repo, file, revision=revision)))
    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except (OSError, ValueError):
        found = _ask(given, lambda: model_info(repo, revision=revision, timeout=_PATIENCE))
        wanted = weight_files([sibling.rfilename for sibling in found.siblings or ()])
        return Path(_ask(given, lambda: snapshot_download(repo, revision=revision, allow_patterns=wanted)))


def weight_files(names: Sequence[str]) -> list[str]:
    """Patterns of the files an import reads: settings, and weights as safetensors where the hub has them."""
    safe = any(Path(name).match(_SAFE[0]) and "/" not in name for name in names)
    return [*_SETTINGS, *(_SAFE if safe else _PICKLED)]


def _ask(given: Path | str, call: Callable[[], _T]) -> _T:
    try:
        return call()
    except Exception as error:  # the hub's client lets the errors of whatever HTTP library it uses through
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
        raise CheckpointError(
            f"there is no file or folder {given}, and the hub gave nothing of that name ({reason}): "
            "download it elsewhere and give its path"
        ) from error


def _quiet() -> None:
    """Keep the client's own account of its retries off the terminal; what failed is told in one line."""
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)

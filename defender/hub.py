"""A defender's weights by their name on the Hugging Face hub, where a path is expected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from contracts.errors import CheckpointError
from contracts.hub import PATIENCE, hub_file, not_there, quiet_hub
from defender.tensor_files import has_weights

_SETTINGS = ("config.json", "added_tokens.json", "adapter_config.json", "tokenizer.model")
_SAFE = ("model*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model*.bin", "pytorch_model.bin.index.json")

_T = TypeVar("_T")


def locate(given: Path | str, weights: bool = True) -> Path:
    """The file or folder of that path, or the local copy of that name on the hub, downloaded if need be.

    A local copy without all of its weights, of a download that was interrupted, is completed; one without
    any will do where `weights` is False, and then none are downloaded.

    Raises CheckpointError, in one line, if it is neither, or the hub does not have it or cannot be reached.
    """
    path = Path(given)
    if path.exists():
        return path
    named = hub_file(str(given))
    if named is None:
        raise CheckpointError(f"cannot read {given} (no such file or folder)")
    repo, revision, file = named
    quiet_hub()
    from huggingface_hub import hf_hub_download, model_info, snapshot_download

    if file:
        return Path(_ask(given, lambda: hf_hub_download(repo, file, revision=revision)))
    try:
        copy = Path(snapshot_download(repo, revision=revision, local_files_only=True))
        if has_weights(copy) if weights else (copy / _SETTINGS[0]).exists():
            return copy
    except (OSError, ValueError):
        pass  # nothing of it is here yet
    wanted = list(_SETTINGS)
    if weights:
        found = _ask(given, lambda: model_info(repo, revision=revision, timeout=PATIENCE))
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
        raise not_there(given, "file or folder", error, "download it elsewhere and give its path") from error

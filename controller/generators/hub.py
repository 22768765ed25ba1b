"""Pipelines by their names on the Hugging Face hub, where a folder is expected.

A folder that exists always wins. `ORG/NAME` (`@REVISION` may follow) is taken from the hub's cache if it is
there, without a network, and is downloaded otherwise: settings, and the weights that diffusers would load.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from contracts.errors import CheckpointError
from contracts.hub import PATIENCE, hub_name, not_there, quiet_hub
from controller.checkpoints import how_to_get, lacks_of_pipeline

log = logging.getLogger(__name__)


def present(given: Path | str, variant: str = "") -> Path | None:
    """The folder of that path, or the complete local copy of that name on the hub; None if there is neither.
    Asks no network."""
    if (folder := Path(given)).is_dir():
        return folder
    if (named := hub_name(str(given))) is None:
        return None
    from huggingface_hub import snapshot_download

    try:
        found = Path(snapshot_download(named.repo, revision=named.revision, local_files_only=True))
    except (OSError, ValueError):
        return None
    return None if lacks_of_pipeline(found, variant) else found


def locate(given: Path | str, variant: str = "") -> Path:
    """The folder of that path, or the local copy of that name on the hub, downloaded if need be.

    Raises CheckpointError, in one line, if it is neither, or the hub does not have it or cannot be reached.
    """
    if (found := present(given, variant)) is not None:
        return found
    if (named := hub_name(str(given))) is None:
        raise CheckpointError(f"there is no diffusers pipeline in {given}: there is no such folder")
    quiet_hub()
    import diffusers
    from huggingface_hub import model_info

    options: dict[str, Any] = {"variant": variant} if variant else {}
    try:
        model_info(named.repo, revision=named.revision, timeout=PATIENCE)
        log.warning("downloading %s from the hub; the next time it is taken from the cache", given)
        download: Any = diffusers.DiffusionPipeline.download
        return Path(download(named.repo, revision=named.revision, **options))
    except Exception as error:  # the hub's client lets the errors of whatever HTTP library it uses through
        remedy = f"{how_to_get(str(given), variant)}, here or on another machine, and give the folder's path"
        raise not_there(given, "folder", error, remedy) from error

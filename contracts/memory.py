"""Is it memory that ran out? Libraries say it in ways of their own; nothing here imports them."""

from __future__ import annotations


def out_of_memory(error: BaseException | None) -> bool:
    """Is it, or was it caused by, a failed allocation on any device?"""
    while error is not None:
        said = str(error).lower()
        # torch.OutOfMemoryError, by its name.
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            return True
        if isinstance(error, RuntimeError) and ("out of memory" in said or "can't allocate memory" in said):
            return True
        error = error.__cause__
    return False

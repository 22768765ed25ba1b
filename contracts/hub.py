"""Checkpoints by their names on the Hugging Face hub, where a path is expected.

`ORG/NAME` is a folder of weights, `ORG/NAME/FILE` a single file of it; `@REVISION` may follow the name. A
path that exists always wins, and what was downloaded before is taken from the hub's cache.
"""

from __future__ import annotations

import logging
import re
from typing import NamedTuple

from contracts.errors import CheckpointError

PATIENCE = 10.0
"""Seconds to wait for the hub's first answer."""
_NAMED = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?:@(?P<revision>[\w.-]+))?(?:/(?P<file>[\w./-]+))?")


class HubName(NamedTuple):
    """What a name on the hub says."""

    repo: str
    revision: str | None = None
    file: str | None = None


def hub_name(given: str) -> HubName | None:
    """The parts of `ORG/NAME[@REVISION]`; None if it has not that form."""
    named = hub_file(given)
    return named if named is not None and named.file is None else None


def hub_file(given: str) -> HubName | None:
    """The parts of `ORG/NAME[@REVISION][/FILE]`; None if it has not that form."""
    named = _NAMED.fullmatch(given)
    return HubName(**named.groupdict()) if named else None


def quiet_hub() -> None:
    """Keep the client's own account of its retries off the terminal; what failed is told in one line."""
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)


def not_there(given: object, what: str, error: Exception, remedy: str) -> CheckpointError:
    """Neither a path nor on the hub: one line with the first line of what the hub's client said."""
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
    return CheckpointError(
        f"there is no {what} {given}, and the hub gave nothing of that name ({reason}): {remedy}"
    )

"""May a run be taken up again with these values? And are the values fit to be stored?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from contracts.errors import InvalidInput
from contracts.seeds import MAX_SEED

KINDS = ("regeneration", "inpainting")
_RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHOWN = 5
_WIDTH = 60


def check_run_id(run_id: str) -> str:
    """The id itself. Raises InvalidInput unless it is 1..64 letters, digits, '-' or '_'."""
    if not _RUN_ID.fullmatch(run_id):
        raise InvalidInput(f"run id {clip(run_id)} cannot be used: write 1 to 64 letters, digits, '-' or '_'")
    return run_id


def check_seed(seed: int) -> int:
    """The seed as a plain int. Raises InvalidInput outside 0..2**63-1."""
    if not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"seed {seed} cannot be used: choose one from 0 to {MAX_SEED}")
    return int(seed)


def check_text(text: str, what: str) -> str:
    """The text itself. Raises InvalidInput if no database can keep it: NUL, or bytes that were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"the {what} contains bytes that are not UTF-8 text; write it in UTF-8") from None
    if "\0" in text:
        raise InvalidInput(f"the {what} contains a NUL character; remove it")
    return text


def plain(settings: Mapping[str, object]) -> dict[str, Any]:
    """The settings as JSON gives them back, so that stored and fresh compare equal. Raises InvalidInput."""
    try:
        result = json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"the settings cannot be recorded as JSON: {error}") from error
    assert isinstance(result, dict)
    return result


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, on one line: `rounds was 3, now 5; loop.gate is new (true)`. Empty if nothing does."""
    old, new = dict(_flat(before)), dict(_flat(now))
    changed = [name for name in [*old, *(n for n in new if n not in old)] if not _same(old, new, name)]
    parts = [_change(old, new, name) for name in changed[:_SHOWN]]
    if len(changed) > _SHOWN:
        parts.append(f"and {len(changed) - _SHOWN} more")
    return "; ".join(parts)


def clip(value: object) -> str:
    """The value as JSON on one line, cut to a readable length."""
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."


def _same(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> bool:
    if name not in old or name not in new:
        return False
    before, now = old[name], new[name]
    # 7 and 7.0 are one setting, 1 and true are two.
    return bool(before == now) and isinstance(before, bool) == isinstance(now, bool)


def _change(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> str:
    if name not in old:
        return f"{name} is new ({clip(new[name])})"
    if name not in new:
        return f"{name} is gone (was {clip(old[name])})"
    return f"{name} was {clip(old[name])}, now {clip(new[name])}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item

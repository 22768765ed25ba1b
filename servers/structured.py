"""The JSON object in whatever a model wrote: bare, in a fence, among words, or as tags.

What a model writes is untrusted: nothing is evaluated, sizes are limited, and whoever asked checks the
object's content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_CHARACTERS = 20_000
"""An answer is a few hundred characters; a longer one is no answer."""

_THOUGHTS = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)", re.DOTALL | re.IGNORECASE)


def find_object(text: str, keys: Sequence[str]) -> dict[str, Any] | None:
    """The first JSON object in the text that has all `keys`, or tags `<key>value</key>` for all of them (the
    values are then strings). None if there is neither; a text of more than 20,000 characters holds none."""
    if len(text) > MAX_CHARACTERS:
        return None
    said = _THOUGHTS.sub("", text)
    return next((found for found in _objects(said) if set(keys) <= set(found)), None) or _tagged(said, keys)


def looks_cut_off(text: str) -> bool:
    """Whether the text opens an object or a tag that it does not close."""
    said = _THOUGHTS.sub("", text)
    return (
        "{" in said
        and said.count("{") > said.count("}")
        or bool(re.search(r"<(\w+)>(?!.*</\1>)", said, re.S))
    )


def tags(schema: Mapping[str, Any]) -> str:
    """How an answer in tags looks, for the instruction: `<prompt>...</prompt>`, one per line."""
    return "\n".join(f"<{key}>...</{key}>" for key in schema["properties"])


def _objects(text: str) -> list[dict[str, Any]]:
    """Objects that are not inside another, in order."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    found, position = [], text.find("{")
    while position >= 0:
        try:
            value, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            end = position + 1
        else:
            found.append(value)
        position = text.find("{", end)
    return found


def _tagged(text: str, keys: Sequence[str]) -> dict[str, Any] | None:
    values = {}
    for key in keys:
        match = re.search(rf"<{re.escape(key)}>(.*?)</{re.escape(key)}>", text, re.DOTALL | re.IGNORECASE)
        if match is None:
            return None
        values[key] = match[1].strip()
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")

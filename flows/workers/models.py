"""What a worker does with a call: it asks the same tools that a run without workers has.

Tools are built at the first call that needs them and stay for the life of the process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from contracts.errors import InvalidInput

METHODS: Mapping[str, frozenset[str]] = {
    "generator": frozenset({"generate", "unknown_words"}),
    "inpainter": frozenset({"inpaint"}),
    "defender": frozenset({"diagnose"}),
    "scorers": frozenset({"score"}),
    "modifier": frozenset({"revise"}),
    "region modifier": frozenset({"revise"}),
}
"""Which methods of which parts may be called, besides FACTS."""
FACTS = "facts"
"""Asks what a tool says of itself."""
PARTS = tuple(METHODS)

Find = Callable[[str, str, Mapping[str, Any]], Any]
"""Profile, part and what the call says of the tool -> the tool."""


def perform(profile: str, question: Mapping[str, Any], find: Find) -> Any:
    """The `value` of a call, and a fingerprint of the `tool` that made it. Raises InvalidInput for a part or
    method that there is not, and what the tool raises."""
    part, method = question["part"], question["method"]
    if method not in {FACTS, *METHODS.get(part, ())} or part not in METHODS:
        raise InvalidInput(f"workers have no {method!r} of the {part!r}: install the same version everywhere")
    tool = find(profile, part, question["tool"])
    described = tool.describe()
    if method == FACTS:
        named = ("name", "native_size", "alignment")
        value = {"describe": described} | {n: getattr(tool, n) for n in named if hasattr(tool, n)}
    else:
        value = getattr(tool, method)(**question["arguments"])
    return {"value": value, "tool": fingerprint(described)}


def fingerprint(described: Mapping[str, object]) -> str:
    """A digest of what a tool says of itself: equal for equal weights and settings."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def tool_of(profile: str, part: str, tool: Mapping[str, Any]) -> Any:
    """The tool itself, from the one place where tools are built. Raises InvalidInput, CheckpointError."""
    from flows import assemble

    if part == "defender":
        return assemble.defender(profile, **tool.get("looking", {}))
    if part == "scorers":
        return next(scorer for scorer in assemble.scorers(profile) if scorer.name == tool["scorer"])
    if part in ("generator", "modifier"):
        changes = tool["changes"] if part == "modifier" else {}
        own = part == "modifier" and not changes
        painting = assemble.regeneration_tools(profile, own_modifier=own, **tool["painter"])
        if part == "generator":
            return painting.generator
        return (assemble.with_modifier(painting, profile, changes) if changes else painting).modifier
    repairing = assemble.inpainting_tools(profile, tool["steps"], tool["guidance_scale"], **tool["painter"])
    return repairing.inpainter if part == "inpainter" else repairing.modifier

"""What the tests begin their runs with."""

from __future__ import annotations

BEGIN = {
    "kind": "regeneration",
    "prompt": "a red cone",
    "seed": 7,
    "settings": {"rounds": 3, "generator": {"steps": 12, "size": (64, 64)}},
}

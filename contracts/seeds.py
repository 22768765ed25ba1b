"""Seeds that depend on what a sample is, never on where it stands in a batch."""

from __future__ import annotations

import hashlib

MAX_SEED = 2**63 - 1


def derive_seed(run_seed: int, round_index: int, region: int = 0, candidate: int = 0) -> int:
    """A seed in 0..2**63-1 for one sample: the same for the same four numbers, on every machine."""
    key = f"{run_seed}/{round_index}/{region}/{candidate}".encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") & MAX_SEED


def picture_seed(run_seed: int, content: bytes) -> int:
    """A seed in 0..2**63-1 for one picture by what it shows, so that pictures of one seed get noise of their
    own, whatever their names and order."""
    key = f"{run_seed}/".encode() + hashlib.sha256(content).digest()
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") & MAX_SEED

"""Where numbers made by the original code lie: with the parity tests, or in the folder of LEGION_FIXTURES."""

from __future__ import annotations

import os
from pathlib import Path

FIXTURES = Path(os.environ.get("LEGION_FIXTURES") or Path(__file__).parent / "parity" / "fixtures")

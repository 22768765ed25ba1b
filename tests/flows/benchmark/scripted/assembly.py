"""What `flows.assemble` would build, scripted."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmark_world import World  # noqa: E402

globals().update({name: part for name, part in vars(World().module()).items() if not name.startswith("__")})

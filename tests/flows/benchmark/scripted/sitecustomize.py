"""On the path of a worker process, so that it finds the scripted world where the real assembly would be."""

import importlib.util
import sys
from pathlib import Path

ASSEMBLY = Path(__file__).resolve().parent / "assembly.py"


class Scripted:
    """Finds flows.assemble, and nothing else."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        return importlib.util.spec_from_file_location(name, ASSEMBLY) if name == "flows.assemble" else None


sys.meta_path.insert(0, Scripted)

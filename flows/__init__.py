"""The front of the house: settings, assembly, the Prefect flow, the report and the command line."""

import os

# The threads of one operation wait for each other by spinning, for milliseconds, before they sleep. While
# another process needs the core, that makes a small network dozens of times slower (benchmarks/busy.py). So
# many turns keep nearly all that spinning gains on an idle machine. Read once, when OpenMP is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

"""Side-by-side measurements, one module per claim: `python -m benchmarks.NAME` from the project's folder."""

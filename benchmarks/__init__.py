"""Measurements of photojobs against the shortest way to do the same, each a command: `python -m benchmarks.NAME`."""

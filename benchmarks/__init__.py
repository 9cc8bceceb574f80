"""Benchmarks that compare photojobs with other tools or minimal code. `python -m benchmarks.NAME` runs one of them."""

"""The library of the demo: drawn photographs with many kinds of faults, which `photojobs demo` repairs."""

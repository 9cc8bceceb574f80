"""The demo: a library of drawn photographs with all that can be wrong with one, and a run over it that mends it."""

"""The demo: a library of drawn photographs with all kinds of faults, and a run that repairs it."""

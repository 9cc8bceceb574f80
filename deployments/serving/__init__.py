"""What `photojobs up` and `photojobs serve` keep running: the runner, flow runs, and runs that were left behind."""

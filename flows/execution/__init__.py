"""Running jobs without Prefect: a job from its claim to its end, the workers, and the sweep."""

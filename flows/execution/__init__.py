"""Running jobs without Prefect: one job from its claim to its end, and the workers that take jobs in turn."""

"""Runs jobs without Prefect.

`job_run` runs one job from its claim to its end, and decides whether a failed job runs again. `worker` takes jobs from
lanes, `plain_run` runs the jobs of one task, and `sweep` requeues the jobs of dead processes.
"""

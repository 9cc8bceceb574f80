"""Reports about tasks, jobs, lanes and libraries. Only `library_figures.py` writes; the others only read.

`waiting_reasons.py` explains why a job waits, `task_summary.py` how a task went, `statistics.py` has the times of jobs.
"""

"""Reports about tasks, jobs, lanes and libraries. Only `library_figures.py` writes; the others only read.

`waiting_reasons.py` explains why a job waits, `task_summary.py` and `task_history.py` how a task went, and
`statistics.py` counts jobs.
"""

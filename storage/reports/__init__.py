"""Reports about tasks, jobs, lanes and libraries. They only read, except that figures of a library are stored.

`waiting_reasons.py` explains why a job waits, `task_summary.py` how a task went, `statistics.py` has the times of jobs.
"""

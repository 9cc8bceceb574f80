"""The life cycle of jobs, items and tasks: inserts their rows, writes heartbeats, ends jobs and starts next steps.

`state_machine.py` decides how a task continues after its jobs have ended, and `step_jobs.py` which jobs a step gets.
"""

"""Decides which job runs next, and when a job may not run. Also has the repositories of tasks and jobs.

`RANK` in `exchange_statements.py` is the order of jobs. `exchange.py` claims the best jobs, and `claims.py` the best
jobs of lanes with aging or fairness. `lanes.py` decides how many jobs run at a time, and `holds.py` which jobs wait for
the release of a hold. `project_claims.py` keeps two jobs that change files from working in one project. `rescue.py`
decides which running jobs are abandoned.
"""

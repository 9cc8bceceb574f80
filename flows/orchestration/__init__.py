"""Runs tasks as Prefect flow runs.

`compiler` makes a flow of a definition. `task_flow` is the body of the flow, and decides in which state it ends.
`cancellation_watch` notices that a flow run was canceled or paused in Prefect. `job_task_runner` runs the mapped task
runs, one for each job.
"""

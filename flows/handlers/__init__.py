"""The interface for handlers, the functions that run jobs.

`step` has the decorator `@step` and the registry of handlers, `step_context` the calls that a handler may make,
`photo_files_change` the order in which files and their rows change, and `job_report` the counts of a job's result.
"""

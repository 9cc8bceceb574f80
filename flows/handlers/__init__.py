"""The interface for handlers, the functions that run jobs.

`step` has the decorator `@step` and the registry of handlers. `step_context` has the calls that a handler may make.
`photo_files_change` decides in which order files and their rows change. `job_report` has the counts of a job's result.
"""

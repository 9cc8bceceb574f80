"""Commands that run tasks and show them: plan, run, start, undo, cancel, retry, tasks, report.

The commands tasks, cancel and retry are in `existing_tasks`. `running` runs a task in the process of a command.
"""

"""Functions for other programs.

`start` starts and runs tasks, `task_control` shows, cancels, retries and holds tasks, `saved_plan_run` runs saved
plans, and `undo` undoes tasks.
"""

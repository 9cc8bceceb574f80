"""Commands that run tasks and show them: plan, run, start, undo, cancel, retry, tasks, report."""

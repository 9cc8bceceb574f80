"""Functions for other programs: start, run, inspect and control tasks, run saved plans, and undo tasks."""

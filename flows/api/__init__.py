"""The calls of programs: start, run, follow and steer tasks, run saved plans, and undo."""

"""The life cycle of jobs, items and tasks: inserts their rows, writes heartbeats, ends jobs and starts next steps."""

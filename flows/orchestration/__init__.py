"""The Prefect side: flows from definitions, their mapped task runs, events, artifacts, cancellation and pauses."""

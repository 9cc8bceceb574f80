"""Prefect: definitions as flows, the body of a flow, its mapped runs, events, artifacts, cancellation and pauses."""

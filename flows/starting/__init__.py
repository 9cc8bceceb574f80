"""Starts tasks.

`new_task` checks the arguments, `outbox` decides when Prefect is asked for a flow run, `prefect_requests` asks, and
`deployment_names` names deployments and flow runs.
"""

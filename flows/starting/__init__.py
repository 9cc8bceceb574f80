"""Starts tasks.

`new_task` checks the arguments. `outbox` decides when Prefect is asked for a flow run, and `prefect_requests` sends the
request. `deployment_names` has the names of deployments and flow runs.
"""

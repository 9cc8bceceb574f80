"""Makes Prefect deployments of definitions.

`scheduled_definitions` decides which definitions have a schedule. `runner_deployments` builds the deployment of a
definition, with its schedules and its form (`forms`). `registration` registers a deployment, and keeps the changes that
users made to it on the server. `deploy` deploys to a work pool.
"""

"""Prefect's server as photojobs runs it: one process, started by `python -m deployments.embedded_server HOST PORT`.

`deployments.server.prefect_server` starts and stops the process, and passes settings to it in the environment. Here,
`password` makes the password, `guards` refuses foreign hosts and origins, and `run_history` writes the history of tasks
that ran without Prefect.
"""

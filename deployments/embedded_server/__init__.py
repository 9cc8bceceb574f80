"""Prefect's server as photojobs runs it: one process, started by `python -m deployments.embedded_server HOST PORT`.

`deployments.server.prefect_server` starts and stops it. Settings travel in the environment.
"""

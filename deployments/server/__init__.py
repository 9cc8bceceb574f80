"""Prefect's server seen from outside: starting and stopping it, its log, its API, and where one is running."""

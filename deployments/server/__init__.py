"""Starts, stops and asks Prefect's server, which runs in a process of its own.

`prefect_server` starts and stops a server, `kept_process` restarts it, `server_log` reads its log, `server_api` its
API, and `running_up` finds the server of a running `photojobs up`.
"""

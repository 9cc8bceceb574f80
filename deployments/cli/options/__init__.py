"""What commands share.

`parameters` and `task_options` are options, `opening` opens the database, `named_server` checks the Prefect server that
the environment names, and `exit_codes` has the exit codes.
"""
